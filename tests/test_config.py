"""Settings: what is read, what is refused, and how it is said."""

import dataclasses

import pytest

from labelpenet.config import Config, ConfigError, config_from_dict, load_config, presets


@pytest.mark.parametrize("name", presets())
def test_presets_load(name):
    config = load_config(name)
    assert config != Config() or name == "voc-vgg16"


def test_defaults_are_the_papers():
    train = Config().train
    assert train.scales == (480, 576, 688, 864, 1024)
    assert (train.longest, train.batch, train.rate, train.momentum) == (1200, 2, 1e-3, 0.9)
    assert sum(train.steps) == 4 * 50_000
    assert Config().proposals.limit == 1600


def test_files_and_overrides(tmp_path):
    toml = tmp_path / "a.toml"
    toml.write_text('seed = 3\n[model]\nbackbone = "tiny"\n[train]\nrate = 0.01\n')
    yaml = tmp_path / "a.yaml"
    yaml.write_text("seed: 3\nmodel: {backbone: tiny}\ntrain: {rate: 0.01}\n")
    assert load_config(toml) == load_config(yaml)
    config = load_config(toml, ["train.rate=1e-4", "train.steps=[1,2,3,4]", "model.weights=null"])
    assert (config.train.rate, config.train.steps) == (1e-4, (1, 2, 3, 4))


def test_largest_seed():
    assert load_config(None, [f"seed={2**63 - 1}"]).seed == 2**63 - 1


def test_round_trip_and_fingerprint():
    config = load_config("demo")
    assert config_from_dict(config.to_dict()) == config
    assert dataclasses.replace(config, seed=1).fingerprint() != config.fingerprint()
    assert load_config("demo").fingerprint() == config.fingerprint()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.rte=1", "unknown key train.rte; did you mean train.rate"),
        ("trian.rate=1", "unknown key trian; did you mean train"),
        ("train.rate=-1", "train.rate: Input should be greater than 0, got -1"),
        ("train.rate=.nan", "train.rate"),
        ("model.backbone=vgg", "'vgg16', 'squeezenet1_0' or 'tiny', got 'vgg'"),
        ("calibration.crf=3", "calibration.crf: expected a section, got 3"),
        ("train.steps=[1,2]", "train.steps"),
        ("seed=many", "seed"),
        ("seed", "expected section.key=value"),
        ("seed=-1", "seed: Input should be greater than or equal to 0, got -1"),
        (f"seed={2**63}", f"seed: Input should be less than {2**63}, got {2**63}"),
        ("seed.x.y=3", "seed: Input should be a valid integer"),
        ("train.rate=[", "cannot read the value"),
        ("seed=2020-13-45", "seed: expected a number, got '2020-13-45'"),
        ("train.rate=true", "train.rate: expected a number, got True"),
        ("train.steps=[1,2,3,true]", "train.steps.3: expected a number, got True"),
        ("icn.matching.alpha=true", "icn.matching.alpha: expected a number, got True"),
        ("calibration.threshold='0.5'", "calibration.threshold: expected a number, got '0.5'"),
        ("seed=" + 5000 * "1", "cannot read the value"),
        ("seed=" + 5000 * "[", "cannot read the value"),
        ("train.rate=.inf", "train.rate: Input should be a finite number"),
        ("icn.matching.alpha=.nan", "icn.matching.alpha: Input should be a finite number"),
        ("train.scales=[]", "train.scales: Tuple should have at least 1 item"),
        ("detection.anchor_sizes=[]", "detection.anchor_sizes: Tuple should have at least 1 item"),
        ("detection.anchor_ratios=[]", "detection.anchor_ratios: Tuple should have at least 1"),
        ("model.fc_width=99999999", "model.fc_width: Input should be less than or equal to 16384"),
    ],
)
def test_refused(override, message):
    with pytest.raises(ConfigError) as error:
        load_config(None, [override])
    assert message in str(error.value)


def test_numbers_and_what_looks_like_one():
    config = load_config(
        None,
        ["train.steps=[1e1,2,3,4]", "train.rate=1E-4", "seed=010", "train.flip=no"],
    )
    assert config.train.steps == (10, 2, 3, 4)
    assert (config.train.rate, config.seed, config.train.flip) == (1e-4, 10, False)
    for name in ("123", "1e5", "nan", "infinity", "true", "a: b"):
        assert str(load_config(None, [f'model.weights="{name}"']).model.weights) == name


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "seed: 1\nseed: 2\n", "a.yaml: found the key 'seed' twice"),
        ("a.yaml", "{[a]: 1}", "a.yaml: while constructing a mapping"),
        ("a.yaml", "seed: " + 5000 * "1", "a.yaml: Exceeds the limit"),
        ("a.yaml", "seed: " + 5000 * "[", "a.yaml: nested too deeply"),
        ("a.toml", "seed = ", "a.toml"),
        ("a.yaml", "- 1\n- 2\n", "expected sections of keys, got list"),
        ("a.ini", "", "expected a .toml, .yaml or .yml file or a preset (demo"),
        ("a.toml", b"\xff\xfe", "a.toml"),
    ],
)
def test_broken_files(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert message in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml")


def test_the_papers_preset_and_defaults():
    """Label-PEnet 4.1 and 4.2, number by number; the defaults are the same."""
    preset = load_config("voc-vgg16")
    train = preset.train
    assert preset.model.backbone.value == "vgg16"
    assert preset.model.fc_width == 4096
    assert preset.proposals.limit == preset.proposals.train_limit == 1600
    assert train.scales == (480, 576, 688, 864, 1024)
    assert (train.longest, train.flip, train.batch) == (1200, True, 2)
    assert (train.optimizer.value, train.momentum, train.weight_decay) == ("sgd", 0.9, 5e-4)
    assert train.steps == (50_000,) * 4
    assert (train.rate, train.decay_at * 50_000) == (1e-3, 40_000)
    assert (train.forward_backward_steps, train.forward_backward_rate) == (80_000, 1e-4)
    assert (train.backward_iou, train.trunk_steps, train.precision) == (0.5, 0, "fp32")
    assert len(preset.detection.anchor_sizes) * len(preset.detection.anchor_ratios) == 9
    assert preset == load_config()
