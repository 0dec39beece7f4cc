"""bfloat16 on CPUs: when oneDNN convolves in it, that the results are right, and that the digits are learnt in it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from alexnet_jax.devices import processor, towers
from alexnet_jax.jax_version import ONEDNN_SINCE
from alexnet_jax.network import architecture
from alexnet_jax.network.model import Params
from alexnet_jax.training.step import Recipe, TrainState, create_state, loss_and_gradients
from tests.conftest import launch, random_batch, result

ONEDNN = "xla_cpu_experimental_onednn_custom_call"
NARROW = architecture.alexnet(
    architecture.AlexNetOptions(  # without dropout, whose draws depend on the type
        kernels=(16, 32, 48, 48, 32), units=(64, 64), classes=10, input_size=96, dropout=architecture.Dropout(0.0)
    )
)


@pytest.mark.parametrize(
    ("told", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16 sse2\n\nprocessor\t: 1\nflags\t\t: fpu\n", True),
        ("flags\t\t: amx_tile amx_bf16\n", True),
        ("flags\t\t: fpu avx512f avx512_vnni\n", False),
        ("model name\t: avx512_bf16\nflags\t\t: fpu\n", False),
        ("Features\t: fp asimd bf16\n", False),  # Arm's: XLA has no oneDNN there
    ],
)
def test_whether_the_processor_has_products_of_bfloat16(
    told: str, has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    for text, expected in ((None, False), (told, has)):  # first without the file
        if text:
            (tmp_path / "cpuinfo").write_text(text)
        processor.multiplies_bfloat16.cache_clear()
        assert processor.multiplies_bfloat16() is expected
    processor.multiplies_bfloat16.cache_clear()


@pytest.fixture
def cached(tmp_path: Path) -> Iterator[Path]:
    """The folder of JAX's compilation cache."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [jax.config.values[name] for name in names]
    jax.config.update(names[0], str(tmp_path))
    jax.config.update(names[1], 0.0)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in zip(names, before, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_onednn_is_asked_for_in_bfloat16_on_such_a_processor_alone(
    monkeypatch: pytest.MonkeyPatch, cached: Path
) -> None:
    mesh = towers.make_mesh(1, 1)
    for has in (True, False):
        monkeypatch.setattr(towers, "multiplies_bfloat16", lambda has=has: has)
        assert ONEDNN not in towers.compiler_options(mesh, "float32")
        assert (ONEDNN in towers.compiler_options(mesh, "bfloat16")) == (has and jax.__version_info__ >= ONEDNN_SINCE)


@pytest.mark.skipif(jax.__version_info__ < ONEDNN_SINCE, reason="this jax has no oneDNN")
def test_what_onednn_computes_is_as_near_to_float64_as_what_is_computed_without_it(
    monkeypatch: pytest.MonkeyPatch, cached: Path
) -> None:
    """On a processor without products of bfloat16, XLA hands oneDNN float32 of it.

    And no such program is written into the cache, of which JAX would warn, which here is an error.
    """
    monkeypatch.setattr(towers, "multiplies_bfloat16", lambda: True)
    mesh, sized = towers.make_mesh(1, 1), random_batch(8, 10, 96, 100)
    batch, mean = towers.put_batch(sized, mesh), towers.replicate(np.full((100, 100, 3), 120, np.float32), mesh)

    def gradients(dtype: str, options: dict[str, str | bool]) -> Params:
        recipe = Recipe(NARROW, dtype=dtype)
        # Drawn in float32 in both cases, with kernels large enough for activations to differ.
        drawn = create_state(Recipe(NARROW), mesh)
        grown = jax.tree.map(lambda x: x if x.ndim == 1 else 5 * x, drawn.params)
        params = jax.tree.map(lambda x: x.astype(jnp.promote_types(dtype, "float32")), grown)

        def of_step(state: TrainState) -> Params:
            return loss_and_gradients(recipe, mesh, state, batch, mean)[2]

        state = replace(drawn, params=params)
        program = jax.jit(of_step, compiler_options=options).lower(state).compile()
        assert ("__onednn$convolution" in str(program.as_text())) == (ONEDNN in options)
        return dict(jax.device_get(program(state)))

    with jax.enable_x64(True):
        exact = gradients("float64", towers.compiler_options(mesh, "float64"))
    kept = len(list(cached.iterdir()))
    assert kept
    with_it = towers.compiler_options(mesh, "bfloat16")
    ours = gradients("bfloat16", with_it)
    without = gradients("bfloat16", {name: value for name, value in with_it.items() if name != ONEDNN})
    assert len(list(cached.iterdir())) == kept

    def off(found: Params, layer: str) -> float:
        kernel = np.asarray(exact[layer]["kernel"])
        return float(np.linalg.norm(found[layer]["kernel"] - kernel) / np.linalg.norm(kernel))

    for layer in exact:
        assert off(ours, layer) < 1.5 * off(without, layer) + 1e-3, layer
        assert 0 < off(ours, layer) < 0.3, layer  # a unit near zero may fall on either side


@pytest.mark.slow
def test_bfloat16_reaches_the_error_of_float32_on_the_digits(tmp_path: Path) -> None:
    """Within half a point, as means of five seeds; each run is a whole run as in the README."""
    errors: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for dtype, of_seeds in errors.items():
        for seed in range(5):
            flags = (f"--config.model.dtype={dtype}", f"--config.train.seed={seed}", "--config.mesh.model=1")
            done = launch("--config=configs/digits.py", f"--workdir={tmp_path / dtype}{seed}", *flags)
            of_seeds.append(result(done)["top1_error"])
    means = {dtype: sum(of_seeds) / len(of_seeds) for dtype, of_seeds in errors.items()}
    assert means["float32"] < 0.03, errors  # the digits are learnt
    assert abs(means["bfloat16"] - means["float32"]) <= 0.005, errors
    assert errors["bfloat16"] != errors["float32"]
