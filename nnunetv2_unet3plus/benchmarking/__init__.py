"""Trainers compared on one dataset: train, predict, measure, decide whether a difference is real, show.

runs, jobs         which folds are trained, which are missing, and what is to be done      `unet3plus benchmark`
executors          where that is done: on this machine, or on a cluster
collect            existing result folders -> `Benchmark`                                  `unet3plus report`
measures, costs    what a mask is worth, what a network costs
statistics         paired over cases
report             one page, and tables
"""
