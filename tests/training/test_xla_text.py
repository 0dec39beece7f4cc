"""XLA's text of collectives, read in each of its dialects, on short samples."""

import pytest

from alexnet_jax.training.collectives import Collective
from alexnet_jax.training.xla_text import (
    Groups,
    array_bytes,
    collectives_in,
    groups_of,
    iota_groups,
    listed_groups,
    mesh_groups,
)

PARSERS = (listed_groups, iota_groups, mesh_groups)


@pytest.mark.parametrize(
    ("dialect", "groups", "expected"),
    [
        (listed_groups, "replica_groups={{0,2},{1,3}}, metadata={}", ((0, 2), (1, 3))),
        (listed_groups, "source_target_pairs={{0,1},{1,0},{2,3},{3,2}}, x={}", ((0, 1), (2, 3))),
        (iota_groups, "replica_groups=[4,2]<=[8], dimensions={0}", ((0, 1), (2, 3), (4, 5), (6, 7))),
        # Eight devices as 4 x 2, columns: what goes over `data`.
        (iota_groups, "replica_groups=[2,4]<=[4,2]T(1,0), x={}", ((0, 2, 4, 6), (1, 3, 5, 7))),
        (mesh_groups, "replica_groups=mesh['data'=4,'model'=2] {'data'}, x=true", ((0, 2, 4, 6), (1, 3, 5, 7))),
        (mesh_groups, "replica_groups=mesh['data'=2,'model'=2] {'model'}, x=true", ((0, 1), (2, 3))),
        (mesh_groups, "replica_groups=mesh['data'=2,'model'=2] {'data','model'}", ((0, 1, 2, 3),)),
    ],
)
def test_each_dialect_has_one_parser(dialect: object, groups: str, expected: Groups) -> None:
    line = f"  %a = f32[3]{{0}} all-reduce(%x), channel_id=1, {groups}"
    assert [parser(line) for parser in PARSERS] == [expected if parser is dialect else None for parser in PARSERS]
    assert groups_of(line) == expected
    (found,) = collectives_in(f'{line}, metadata={{op_name="jit(f)/jvp(fc6)/psum"}}')
    assert (found.op, found.layer, found.bytes, found.groups) == ("all-reduce", "fc6", 12, expected)


def test_bytes_of_the_arrays_in_a_type() -> None:
    assert array_bytes("bf16[2,5]{1,0}") == [20]
    assert array_bytes("(pred[3]{0}, s32[], f64[2,2]{1,0:T(8,128)})") == [3, 4, 32]


def test_a_permute_counts_for_what_both_devices_send() -> None:
    text = """
  %p = f32[2,5]{1,0} collective-permute(%x), channel_id=3, source_target_pairs={{0,1},{1,0},{2,3},{3,2}}, \
metadata={op_name="jit(f)/transpose(jvp(conv1))/ppermute"}
  %q = (f32[2,5]{1,0}, f32[2,5]{1,0}, u32[], u32[]) collective-permute-start(%x), channel_id=3, \
source_target_pairs={{0,1},{1,0}}, metadata={op_name="jit(f)/jvp(conv2)/ppermute"}
  %r = f32[2,5]{1,0} collective-permute-done(%q)
"""
    assert collectives_in(text) == [
        Collective("collective-permute", "conv1", "backward", 80),
        Collective("collective-permute", "conv2", "forward", 80),
    ]


def test_merged_and_asynchronous_collectives_are_read() -> None:
    text = """
  %a = (f32[3]{0}, /*index=1*/bf16[2,5]{1,0}, s32[]) all-reduce(%x, %y, %z), channel_id=1, \
replica_groups={{0,2},{1,3}}, \
metadata={op_name="jit(f)/(transpose(jvp())/fc6/psum:softmax/psum:rank/sum)"}
  %b = (f32[4]{0}, f32[8]{0}) all-gather-start(%x), \
replica_groups=[2,2]<=[4], dimensions={0}, \
metadata={op_name="jit(f)/conv3/all_gather"}
  %c = f32[8]{0} all-gather-done(%b)
  %d = f32[4]{0} reduce-scatter(%x), \
replica_groups={{0,1}}, \
metadata={op_name="jit(f)/transpose(jvp())/conv3/reduce_scatter"}
  %f = (f32[3]{0}, f32[5]{0}, f32[7]{0}) all-reduce-start(%x, %y, %z), \
replica_groups={{0,1}}, \
metadata={op_name="jit(f)/transpose(jvp())/conv1/psum"}
  %g = pred[6]{0} all-reduce(%x), \
replica_groups={{0,1}}, \
metadata={op_name="jit(f)/rank/any"}
  %e = f32[4]{0} all-reduce(%x), \
replica_groups={{0},{1}}, \
metadata={op_name="jit(f)/softmax/psum"}
  %h = ((bf16[2,3]{1,0}), bf16[1,3]{1,0}) reduce-scatter-start(%x), \
replica_groups={{0,1}}, dimensions={0}, \
metadata={op_name="jit(f)/transpose(jvp())/fc7/reduce_scatter"}
  %i = bf16[1,3]{1,0} reduce-scatter-done(%h)
  %j = f32[103]{0} all-reduce-start(%x), \
replica_groups={{0,2},{1,3}}, metadata={scheduling_name="all-reduce-start"}
"""
    assert collectives_in(text) == [
        Collective("all-reduce", "gradients", "backward", 12),
        Collective("all-reduce", "softmax", "forward", 20),
        Collective("all-reduce", "rank", "forward", 4),
        Collective("all-gather", "conv3", "forward", 32),
        Collective("reduce-scatter", "conv3", "backward", 32),
        Collective("all-reduce", "gradients", "backward", 60),
        Collective("all-reduce", "rank", "forward", 6),
        Collective("reduce-scatter", "fc7", "backward", 12),
        Collective("all-reduce", "merged", "backward", 412),
    ]
