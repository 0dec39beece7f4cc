#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU slice. Run it from the root of a checkout, on a machine with gcloud:
#
#   jobs/tpu_vm.sh NAME ZONE TYPE --config=FILE --workdir=DIR [FLAGS]
#   jobs/tpu_vm.sh alexnet us-central2-b v4-32 --config=configs/alexnet.py --workdir=/mnt/shared/run \
#     --config.data.data_dir=/mnt/shared/data --config.data.manual_dir=/mnt/shared/imagenet
#
# If the slice NAME does not exist, the script creates it as preemptible. It stays until you run
# `gcloud compute tpus tpu-vm delete NAME`. --workdir must be on a disk that all hosts have mounted, such as Filestore.
# So must the pictures, unless --config.data.shared=False gives each host its own.
#
# What it costs: the slice, by the chip and hour from its creation to its deletion, training or not (preemptible slices
# cost less); and the shared disk, by the month. See the price list for the zone.
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

is_ready() { [[ $(tpu describe --format='value(state)' 2> /dev/null) == READY ]]; }

install() {
	tpu create --accelerator-type="$type" --version="$version" --preemptible &&
		git archive --prefix=alexnet_jax/ --output=/tmp/alexnet_jax.tar.gz HEAD &&
		tpu scp /tmp/alexnet_jax.tar.gz : --worker=all &&
		tpu ssh --worker=all --command="tar xzf alexnet_jax.tar.gz" &&
		on_all "python3 -m venv .venv && .venv/bin/pip install --quiet --editable '.[tpu]'"
}

# Tries again after a signal (75) and after a preemption, which removes the slice; not after another error.
for ((try = 1; try <= ${TRIES:-20}; try++)); do
	if ! is_ready; then
		tpu delete --quiet 2> /dev/null
		install || { sleep 300 && continue; }
	fi
	# The first host prepares the pictures first, or each host does if they share no disk.
	workers=0
	[[ $flags == *data.shared=False* ]] && workers=all
	tpu ssh --worker=$workers --command="cd alexnet_jax && JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 .venv/bin/python launch.py --mode=prepare$flags" || exit
	on_all ".venv/bin/python launch.py$flags"
	status=$?
	is_ready && ((status != 75)) && exit "$status"
	echo "stopped with status $status; starting try $((try + 1))" >&2
done
exit 75
