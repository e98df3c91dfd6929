"""Imports of cells and figures. The fork server makes them once, before it forks a process for each cell."""

import os

import matplotlib.pyplot  # noqa: F401
import torch
import torch._dynamo  # the first optimizer of a process imports it

import polarcast.hpc.evaluation.evaluate
import polarcast.hpc.scores.fss_kernel
import polarcast.hpc.scores.pixel_kernels
import polarcast.hpc.training.train  # noqa: F401

if not torch.backends.cuda.is_built():
    # DeepSpeed looks for GPUs when it is imported, and a process that has initialized CUDA must not fork.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed  # noqa: F401
