#!/bin/bash
# Start a private Slurm on this machine, for tests: start_slurm.sh FOLDER
#
# Needs root and the packages slurm-wlm and munge; uses no systemd and nothing outside FOLDER and /run/munge.
# State, logs, configuration and the numbers of the daemons are in FOLDER, and FOLDER/slurm.conf is printed:
# commands find this Slurm with SLURM_CONF set to it. `start_slurm.sh --stop FOLDER` ends its daemons.
#
# It has two nodes, both this machine under one of its addresses, with more CPUs each than there are: the
# jobs of tests sleep most of the time. Jobs of the partition `urgent` preempt those of `second`.
set -euo pipefail

if [ "${1:-}" = "--stop" ]; then
    # Daemons that are told to end leave the processes of jobs behind: these go first.
    if SLURM_CONF="$2/slurm.conf" timeout 10 scancel --user="$(id -un)" 2>/dev/null; then
        for _ in $(seq 50); do
            [ -z "$(SLURM_CONF="$2/slurm.conf" timeout 10 squeue -h 2>/dev/null)" ] && break
            sleep 0.2
        done
    fi
    for file in "$2"/slurmd-*.pid "$2"/slurmctld.pid "$2"/munged.pid; do
        [ -f "$file" ] && kill "$(cat "$file")" 2>/dev/null || true
    done
    exit 0
fi

folder=$(realpath "$1")
host=$(hostname -s)
mkdir -p "$folder"/{state,spool,log}

# munge: a key and a socket of our own; /run/munge is where its default lock is.
mkdir -p /run/munge "$folder/munge"
[ -f "$folder/munge/key" ] || head -c 1024 /dev/urandom > "$folder/munge/key"
chmod 400 "$folder/munge/key"
chmod 755 "$folder/munge" "$folder"
chown -R munge: /run/munge "$folder/munge"
runuser -u munge -- munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
cp "$folder/munge/pid" "$folder/munged.pid"

# Free ports, so that several of these can run side by side.
read -r ctld_port first_port second_port < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(3)]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')

cat > "$folder/slurm.conf" <<CONF
ClusterName=nanollama
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld_port
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,requeue_delay=0
SlurmdParameters=config_overrides
MaxArraySize=7
OverTimeLimit=0
KillWait=20
InactiveLimit=0
NodeName=127.0.0.1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$first_port CPUs=8 RealMemory=1000 State=UNKNOWN
NodeName=127.0.0.2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$second_port CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=first Nodes=127.0.0.1 Default=YES State=UP
PartitionName=second Nodes=127.0.0.2 PriorityTier=1 GraceTime=30 State=UP
PartitionName=urgent Nodes=127.0.0.2 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=both Nodes=ALL State=UP
CONF

export SLURM_CONF="$folder/slurm.conf"
slurmctld
slurmd -N 127.0.0.1
slurmd -N 127.0.0.2
for _ in $(seq 100); do
    [ "$(sinfo -h -p both -o %T 2>/dev/null || true)" = "idle" ] && { echo "$SLURM_CONF"; exit 0; }
    sleep 0.2
done
echo "The private Slurm in $folder did not come up; the end of its logs:" >&2
tail -n 5 "$folder"/log/*.log >&2
exit 1
