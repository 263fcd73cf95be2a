"""What a mask is worth beside its reference.

overlap, surface, volumes   the measures of one class in one scan
case                        of all classes of one scan
reading                     a scan's two masks, from their files
cohort, cache, workers      of all scans: only those that changed, in several processes
"""
