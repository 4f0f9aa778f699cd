#!/bin/sh
# Installs nvcc into cibuildwheel's manylinux_2_28 container, from NVIDIA's repository.
set -eu
version=${CUDA_VERSION:-13-0}
dnf -y install dnf-plugins-core
dnf config-manager --add-repo \
  https://developer.download.nvidia.com/compute/cuda/repos/rhel8/x86_64/cuda-rhel8.repo
dnf -y install "cuda-nvcc-$version" "cuda-cudart-devel-$version"
