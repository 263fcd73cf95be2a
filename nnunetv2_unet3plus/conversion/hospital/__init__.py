"""Scans and masks as they leave a hospital: a folder a patient, DICOM or files, nothing named as one would wish.

- `organs` knows an organ by its names,
- `patient` finds the one scan and the one mask in a patient's folder,
- `masks` are masks in files of their own,
- `cohort` makes the cases of all patients, under names that do not tell who they are.
"""
