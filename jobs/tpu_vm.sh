#!/usr/bin/env bash
# Trains on a Cloud TPU slice, all hosts of it; from the root of a checkout, on a machine that has gcloud:
#
#   jobs/tpu_vm.sh NAME ZONE TYPE --config=FILE --workdir=DIR [FLAGS]
#   jobs/tpu_vm.sh alexnet us-central2-b v4-32 --config=configs/alexnet.py --workdir=/mnt/shared/run \
#     --config.data.data_dir=/mnt/shared/data --config.data.manual_dir=/mnt/shared/imagenet
#
# NAME is made as a preemptible slice if it is not there, and stays until `gcloud compute tpus tpu-vm delete NAME`.
# --workdir must lie on a disk that all hosts have mounted, such as Filestore; the pictures, too, unless
# --config.data.shared=False gives each host its own.
#
# What it costs: the slice is charged by the chip and hour from its making to its deleting, training or not, and what
# is preempted at a lower price; the shared disk by the month. See the price list of the zone.
set -uo pipefail
if (($# < 4)); then
	echo "usage: $0 NAME ZONE TYPE --config=FILE --workdir=DIR [FLAGS]" >&2
	exit 1
fi
name=$1 zone=$2 type=$3
shift 3
version=${TPU_VERSION:-tpu-ubuntu2204-base}
flags=$(printf ' %q' "$@")

tpu() { gcloud compute tpus tpu-vm "$1" "$name" --zone="$zone" "${@:2}"; }
on_all() { tpu ssh --worker=all --command="cd alexnet_jax && $1"; }

there() { [[ $(tpu describe --format='value(state)' 2> /dev/null) == READY ]]; }

install() {
	tpu create --accelerator-type="$type" --version="$version" --preemptible &&
		git archive --prefix=alexnet_jax/ --output=/tmp/alexnet_jax.tar.gz HEAD &&
		tpu scp /tmp/alexnet_jax.tar.gz : --worker=all &&
		tpu ssh --worker=all --command="tar xzf alexnet_jax.tar.gz" &&
		on_all "python3 -m venv .venv && .venv/bin/pip install --quiet --editable '.[tpu]'"
}

# Again after a signal (75), and after a preemption, which takes the slice away; not after a mistake.
for ((try = 1; try <= ${TRIES:-20}; try++)); do
	if ! there; then
		tpu delete --quiet 2> /dev/null
		install || { sleep 300 && continue; }
	fi
	# The pictures first, by the first host, or by each where they share no disk.
	workers=0
	[[ $flags == *data.shared=False* ]] && workers=all
	tpu ssh --worker=$workers --command="cd alexnet_jax && JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 .venv/bin/python launch.py --mode=prepare$flags" || exit
	on_all ".venv/bin/python launch.py$flags"
	status=$?
	there && ((status != 75)) && exit "$status"
	echo "stopped with status $status: try $((try + 1))" >&2
done
exit 75
