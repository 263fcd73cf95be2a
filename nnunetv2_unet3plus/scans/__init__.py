"""New scans on their way to `nnUNetv2_predict` and their masks on the way back.

- `find` lists the scans of a folder: files, DICOM series,
- `prepare` writes them as nnU-Net wants them, with `scans.json`, which remembers what each was,
- `restore` puts the masks back where the scans came from, as files like theirs or as DICOM-SEG.
"""
