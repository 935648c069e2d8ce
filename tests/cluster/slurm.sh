#!/usr/bin/env bash
# Runs a command on a Slurm of one node, which lives as long as the command:
#   sudo tests/cluster/slurm.sh sbatch --wait job.sh
# Needs root and Debian's packages `slurm-wlm` and `munge`. Nothing outside of a temporary folder is written; a Slurm of
# this machine is left alone, but must not use the ports below.
set -euo pipefail

CONTROLLER_PORT=${SLURM_TEST_CONTROLLER_PORT:-16817}
NODE_PORT=${SLURM_TEST_NODE_PORT:-16818}

[ "$(id -u)" = 0 ] || { echo "$0: must be root, since slurmd and munged start as root." >&2; exit 1; }
for program in slurmctld slurmd munged sinfo scontrol; do
    command -v "$program" > /dev/null || { echo "$0: '$program' is missing; apt-get install slurm-wlm munge" >&2; exit 1; }
done
[ $# -gt 0 ] || { echo "usage: $0 COMMAND ..." >&2; exit 1; }

folder=$(mktemp -d "${TMPDIR:-/tmp}/slurm.XXXXXX")
host=$(hostname -s)
pids=()

stop() {
    local pid
    # Jobs first: a daemon would leave theirs behind.
    scancel --quiet --user root 2> /dev/null || true
    for _ in $(seq 150); do [ -n "$(squeue --noheader 2> /dev/null)" ] || break; sleep 0.1; done
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
    for pid in "${pids[@]}"; do
        for _ in $(seq 100); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2> /dev/null || true
        wait "$pid" 2> /dev/null || true
    done
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# munge refuses folders that others may write to, and a socket in /tmp would be one.
mkdir -p "$folder/munge" "$folder/state" "$folder/spool" "$folder/log"
chmod 755 "$folder" "$folder/munge"
dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 status=none
chmod 400 "$folder/munge/key"

cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$CONTROLLER_PORT
SlurmdPort=$NODE_PORT
SlurmUser=root
SlurmdUser=root
# A requeued job may start again as soon as the credentials of its first start are void.
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
# No cgroups, which a container does not have.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2
SchedulerType=sched/backfill
MpiDefault=none
ReturnToService=2
KillWait=10
MinJobAge=300
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(($(grep MemTotal /proc/meminfo | tr -dc 0-9) / 1024 - 64)) State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" \
    > "$folder/log/munged" 2>&1 &
pids+=($!)
for _ in $(seq 50); do [ -S "$folder/munge/socket" ] && break; sleep 0.1; done

export SLURM_CONF="$folder/slurm.conf"
slurmctld -D -f "$SLURM_CONF" > "$folder/log/slurmctld.out" 2>&1 &
pids=($! "${pids[@]}")
slurmd -D -f "$SLURM_CONF" -N "$host" > "$folder/log/slurmd.out" 2>&1 &
pids=($! "${pids[@]}")
for _ in $(seq 150); do
    [ "$(sinfo --noheader --format=%T 2> /dev/null)" = idle ] && break
    sleep 0.2
done
if [ "$(sinfo --noheader --format=%T 2> /dev/null)" != idle ]; then
    echo "$0: the node does not become idle:" >&2
    sinfo >&2 || true
    tail -n 20 "$folder"/log/* "$folder/munge/log" >&2
    exit 1
fi

status=0
"$@" || status=$?
exit "$status"
