#!/bin/bash
# Train with SLURM on all GPUs of several machines, in one process for each GPU. Run it in the
# repository, with the flags of train_distributed.py:
#     sbatch examples/cluster/slurm.sh --dataset imagenet2012 --recipe DeiT --image-size 224
#SBATCH --job-name=keras-mixers
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
# Two minutes before the time limit, or at a preemption, the processes save a backup and end.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=keras-mixers-%j.log

# --resume begins from the start if there is no backup. If a process is lost, srun ends the others.
srun --kill-on-bad-exit=1 --label \
    python examples/train_distributed.py --save-every 500 --resume "$@"
status=$?
# 143: the processes have saved after SIGTERM. The same job continues when it has machines again.
if [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
