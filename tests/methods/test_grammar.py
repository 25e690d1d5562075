"""Method names and degradations as typed on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowq_core.degrade import HELD_OUT, KNOWN, NOISES
from lowq_core.errors import LowqError
from lowq_core.methods.grammar import parse_method
from lowq_core.methods.noises import parse_degrade
from lowq_core.methods.parts import EMBEDDINGS, TUNED, WHITENINGS, LocalMethod, Method, Tuned
from lowq_core.training.adapnet import ROWS


@given(
    st.sampled_from(sorted(EMBEDDINGS)),
    st.sampled_from([None, *sorted(WHITENINGS)]),
    st.sampled_from([None, *map(Tuned, sorted(TUNED))]),
    st.booleans(),
)
def test_a_methods_name_reads_back_as_itself(
    embedding: str, whitening: str | None, tuned: Tuned | None, restored: bool
) -> None:
    method = Method(embedding, whitening, tuned, restored)
    assert parse_method(method.name) == method


@given(
    st.sampled_from(["none", "gcn", "gcn_reweight", "solar", "self_attention"]),
    st.one_of(
        st.just(("none", 3, "spatial")),
        st.tuples(st.just("average"), st.sampled_from([1, 3, 9]), st.just("spatial")),
        st.tuples(
            st.just("learnable"), st.sampled_from([3, 5, 7]), st.sampled_from(["spatial", "feature", "both"])
        ),
    ),
    st.sampled_from([None, 0]),
    st.booleans(),
)
def test_a_local_methods_name_reads_back_as_itself(context, smoothing, seed, asmk) -> None:
    kind, kernel, mode = smoothing
    method = LocalMethod(context, kind, kernel, mode, seed)
    assert parse_method(method.name + "+asmk" * asmk) == method


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (LocalMethod(seed=3), "how"),
        (LocalMethod(smoothing="none"), "how+unsmoothed"),
        (LocalMethod(smoothing="learnable", kernel=5, mode="both"), "how+smoothing5-both"),
        (LocalMethod(context="solar", seed=None), "how+solar+untrained"),
        (LocalMethod(context="gcn", smoothing="learnable"), "how+gcn+smoothing3"),
    ],
)
def test_names_of_local_methods(method: LocalMethod, name: str) -> None:
    assert method.name == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gcn", r"how\+gcn"),
        ("gem+smoothing3", r"how\+smoothing3"),
        ("how+gem", "no part 'gem'"),
        ("how+", "empty part"),
        ("how+how", "how twice"),
        ("how+gcn+solar", "gcn and solar"),
        ("how+smoothing3+unsmoothed", "smoothing3 and unsmoothed"),
        ("how+smoothing4", "kernel 4"),
        ("how+no/such.pth", "no such checkpoint"),
    ],
)
def test_what_cannot_be_a_local_method_is_named(text: str, said: str) -> None:
    with pytest.raises(LowqError, match=said):
        parse_method(text)


def test_how_takes_a_checkpoint_and_nothing_beside_it(tmp_path) -> None:
    path = tmp_path / "how+r18.pth"
    path.touch()
    method = parse_method(f"how+{path}")
    assert (method, method.name) == (LocalMethod(checkpoint=path), f"how+{path}")
    with pytest.raises(LowqError, match="leave the others out"):
        parse_method(f"how+{path}+gcn")


def test_a_part_without_an_embedding_stands_on_gem() -> None:
    assert parse_method("lw") == Method("gem", "lw")


@pytest.mark.parametrize("text", ["", "gem+", "gem+gem", "gem+rmac", "pcaw+lw", "resnet", "no/such/file.pth"])
def test_what_cannot_be_a_method_is_named(text: str) -> None:
    with pytest.raises(LowqError, match=text.split("+")[-1].split("/")[-1] or "empty"):
        parse_method(text)


def test_a_checkpoint_may_have_a_plus_in_its_path(tmp_path) -> None:
    path = tmp_path / "gem+whiten.pth"
    path.touch()
    assert parse_method(f"{path}+lw") == Method(str(path), "lw")
    assert parse_method(str(path)).checkpoint == path


def test_all_is_known_and_held_out() -> None:
    assert parse_degrade("all:5") == dict.fromkeys(NOISES, (5,))
    assert set(parse_degrade("known,held_out")) == set(KNOWN) | set(HELD_OUT)
    assert parse_degrade("jpeg,gaussian:2") == {"jpeg": (1, 2, 3, 4, 5), "gaussian": (2,)}


@pytest.mark.parametrize("text", ["mud", "jpeg:6", "jpeg:0", "jpeg:high", "", "jpeg,,"])
def test_what_cannot_be_a_degradation_is_named(text: str) -> None:
    with pytest.raises(LowqError, match="--degrade"):
        parse_degrade(text)


def test_every_training_has_a_row_and_a_checkpoint_none(tmp_path: Path) -> None:
    assert {*TUNED} == {*ROWS}
    file = tmp_path / "network.pth"
    file.touch()
    with pytest.raises(LowqError, match="trained already; leave adapnet out"):
        parse_method(f"{file}+adapnet")
    with pytest.raises(LowqError, match="two parts of the kind training, qcb and ngb"):
        parse_method("gem+qcb+ngb")


def test_searches_and_augmentation() -> None:
    assert parse_method("gss") == Method(search="gss")
    assert parse_method("rmac+lw+dba+dfs-fsr").name == "rmac+lw+dba+dfs-fsr"
    assert parse_method("adapnet+gss").name == "gem+adapnet+gss"
    assert parse_method("how+hqe") == LocalMethod(expanded=True)
    assert parse_method("how+gcn+hqe").name == "how+gcn+hqe"
    with pytest.raises(LowqError, match="two parts of the kind search, gss and dfs"):
        parse_method("gem+gss+dfs")
    with pytest.raises(LowqError, match="how has no part 'gss'"):
        parse_method("how+gss")
    with pytest.raises(LowqError, match=r"hqe is a part of how"):
        parse_method("gem+hqe")


def test_what_geometry_verifies_and_what_starts_from_it() -> None:
    assert parse_method("gem+sv") == Method(verified="sv")
    assert parse_method("gem+dfs+dsm") == Method(verified="dsm", search="dfs")
    assert parse_method("gem+dsm+dfs").name == "gem+dsm+dfs"
    assert parse_method("how+hqe+sv") == LocalMethod(expanded=True, verified=True)
    assert parse_method("how+hqe+sv").name == "how+hqe+sv"
    with pytest.raises(LowqError, match="two parts of the kind verification, sv and hesaff"):
        parse_method("gem+sv+hesaff")
    with pytest.raises(LowqError, match="dqe does not start from verified pictures"):
        parse_method("gem+sv+dqe")
    with pytest.raises(LowqError, match="how has no part 'dsm'"):
        parse_method("how+dsm")
