"""The core that the scripts in `dataset_conversion` share: pair, check, read, convert, write.

A script finds its files (`pairing`), says what is to be written (`description`) and hands that to
`dataset.convert_dataset`, which

1. checks everything that is cheap to check (`target`, `headers`) before the first byte is written,
2. converts case by case (`case`), in several processes (`workers`), each file complete or not there at all (`atomic`),
3. tells what it has repaired, suspected and refused (`findings`, `report`),
4. writes `dataset.json` last, so that nnU-Net never sees an unfinished dataset.

A stopped conversion is finished by running the same command again. Whatever the user can repair is a
`nnunetv2_unet3plus.errors.UserError`; what keeps one case from being converted, a `findings.FaultyFileError`.
"""
