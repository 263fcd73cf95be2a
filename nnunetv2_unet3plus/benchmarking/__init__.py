"""Trainers compared on one dataset: train, predict, measure, decide whether a difference is real, show.

asked              the command line -> a request that can be carried out                   `unet3plus benchmark`
jobs               which folds are missing, and what is to be done about it
train_fold         one fold, by nnU-Net's own code
predict_test       one trainer's masks of the test folder, by the same
executors          where that is done: on this machine, or on a cluster
collect            result folders -> `Benchmark`, see `results`                            `unet3plus report`
measures, costs    what a mask is worth, what a network costs
statistics         paired over cases
report             one page, and tables
"""
