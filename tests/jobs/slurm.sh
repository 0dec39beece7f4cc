#!/usr/bin/env bash
# Runs Slurm on this machine for test_slurm.py: `slurm.sh start DIR` and `slurm.sh stop DIR`. It needs root and Debian's
# packages slurm-wlm and munge. It writes only into DIR, its daemons listen only on loopback, and it stops no others. The
# node claims four CPUs. Two partitions share it, and a job in `urgent` sends a job in `main` back to the queue.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
what=${1:?start or stop} dir=$(realpath -m "${2:?a folder}")
host=$(uname -n)
host=${host%%.*}
export SLURM_CONF=$dir/slurm.conf

configure() {
	local port=$1
	cat > "$SLURM_CONF" <<- CONF
		ClusterName=test
		SlurmctldHost=$host(127.0.0.1)
		SlurmctldPort=$port
		SlurmdPort=$((port + 1))
		CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
		SlurmUser=root
		AuthInfo=socket=$dir/munge.socket
		StateSaveLocation=$dir/state
		SlurmdSpoolDir=$dir/spool
		SlurmctldPidFile=$dir/slurmctld.pid
		SlurmdPidFile=$dir/slurmd.pid
		SlurmctldLogFile=$dir/slurmctld.log
		SlurmdLogFile=$dir/slurmd.log
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		JobAcctGatherType=jobacct_gather/none
		MailProg=/bin/true
		SelectType=select/cons_tres
		SelectTypeParameters=CR_CPU
		SlurmdParameters=config_overrides
		ReturnToService=2
		PreemptType=preempt/partition_prio
		PreemptMode=REQUEUE
		KillWait=60
		SchedulerParameters=sched_interval=2,bf_interval=2
		NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=2000
		PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 State=UP
		PartitionName=urgent Nodes=ALL PriorityTier=2 State=UP
	CONF
}

ours() { # the process id of the daemon $1 that this script started, if it still runs
	local pid
	pid=$(cat "$dir/$1.pid" 2> /dev/null) || return 1
	grep -qa "$dir" "/proc/$pid/cmdline" 2> /dev/null && echo "$pid"
}

launch() { # starts the daemon $1; its output goes to a file, so that it does not hold the caller's pipe open
	"$@" > "$dir/$1.out" 2>&1 < /dev/null || {
		cat "$dir/$1.out" >&2
		exit 1
	}
}

start() {
	[[ $(getent ahostsv4 "$host") == 127.0.0.1* ]] || {
		echo "'$host' is not 127.0.0.1 in /etc/hosts" >&2
		exit 2
	}
	umask 022
	mkdir -p "$dir/state" "$dir/spool"
	(umask 077 && head -c 1024 /dev/urandom > "$dir/munge.key")
	configure "$((20000 + RANDOM % 10000))"
	launch munged --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
		--log-file="$dir/munged.log" --seed-file="$dir/munged.seed"
	launch slurmctld -c -f "$SLURM_CONF"
	launch slurmd -c -f "$SLURM_CONF"
	for _ in {1..120}; do
		[[ $(sinfo -h -p main -o %T 2> /dev/null) == idle ]] && return
		sleep 0.5
	done
	sinfo -R >&2
	exit 1
}

stop() {
	local name pid
	squeue -h -o %A 2> /dev/null | xargs -r scancel || true
	for _ in {1..140}; do
		[[ $(squeue -h 2> /dev/null) ]] || break
		sleep 0.5
	done
	for name in slurmd slurmctld munged; do
		pid=$(ours $name) || continue
		kill "$pid"
		for _ in {1..40}; do
			ours $name > /dev/null || break
			sleep 0.25
		done
	done
}

"$what"
