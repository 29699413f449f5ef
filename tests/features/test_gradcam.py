import pytest
import torch
import transformers as hf
from features.tiny_models import KINDS, SIDE, save_model

from sae_traits.config.features import Texture, VisionModel
from sae_traits.errors import BackboneError
from sae_traits.features.backbone import load_backbone
from sae_traits.features.gradcam import load_gradcam
from sae_traits.schema import BackboneInfo

CPU = torch.device("cpu")


def save_classifier(kind, folder, seed=0):
    """A random classifier of three classes, with its head, as a folder like those on the Hub."""
    save_model(kind, folder)  # for the preprocessor
    torch.manual_seed(seed)
    config = KINDS[kind].config()
    config.id2label = {0: "moth", 1: "wasp", 2: "fly"}
    config.label2id = {"moth": 0, "wasp": 1, "fly": 2}
    model = hf.AutoModelForImageClassification.from_config(config).eval()
    model.save_pretrained(folder)
    return model


def info_of(folder, layer) -> BackboneInfo:
    return load_backbone(VisionModel(model=str(folder), layer=layer), device="cpu").info


def pixels(n=3, seed=1):
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def test_at_the_last_map_before_an_average_the_channels_weigh_as_the_classifier_says(tmp_path):
    """Selvaraju et al. 2017, section 3.1: after a global average, Grad-CAM is CAM."""
    model = save_classifier("resnet", tmp_path)
    class_maps = load_gradcam(info_of(tmp_path, -1), CPU)(pixels())
    with torch.no_grad():
        output = model(pixel_values=pixels(), output_hidden_states=True)
    maps, classes = output.hidden_states[-1], output.logits.argmax(1)
    weights = model.classifier[1].weight.detach()[classes]  # [n, channels]
    expected = (maps * weights[:, :, None, None]).sum(1).relu().flatten(1) / maps[0, 0].numel()
    assert [class_map.class_index for class_map in class_maps] == classes.tolist()
    assert [class_map.class_name for class_map in class_maps] == [("moth", "wasp", "fly")[c] for c in classes.tolist()]
    values = torch.tensor([class_map.values.tolist() for class_map in class_maps])
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("kind", "layer"), [("vit", 2), ("resnet", 2)])
def test_a_map_is_made_of_the_change_of_the_highest_logit_with_each_channel(kind, layer, tmp_path):
    model = save_classifier(kind, tmp_path).double()
    info = info_of(tmp_path, layer)
    (class_map,) = load_gradcam(info, CPU)(pixels(1))
    hidden = model(pixel_values=pixels(1).double(), output_hidden_states=True).hidden_states[layer].detach()
    block = model.vit.layers[layer] if kind == "vit" else model.resnet.encoder.stages[layer]

    def logit(changed):
        """The logit of the class when the next block is given another input."""
        handle = block.register_forward_pre_hook(lambda module, args: (changed, *args[1:]))
        with torch.no_grad():
            value = model(pixel_values=pixels(1).double()).logits[0, class_map.class_index]
        handle.remove()
        return float(value)

    # The mean gradient of a channel over the patches is the slope along raising all its patches together.
    n_patches, step = info.rows * info.columns, 1e-6
    weights = []
    for channel in range(info.d_model):
        up = torch.zeros_like(hidden)
        if hidden.dim() == 4:
            up[:, channel] = step
        else:
            up[:, -n_patches:, channel] = step
        weights.append((logit(hidden + up) - logit(hidden - up)) / (2 * step * n_patches))
    vectors = hidden.flatten(2).transpose(1, 2)[0] if hidden.dim() == 4 else hidden[0, -n_patches:]
    expected = (vectors @ torch.tensor(weights, dtype=torch.float64)).relu()
    assert expected.max() > 0
    assert class_map.values == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-4 * float(expected.max()))


def test_a_map_does_not_depend_on_what_else_is_in_the_batch(tmp_path):
    save_classifier("resnet", tmp_path)
    gradcam = load_gradcam(info_of(tmp_path, 2), CPU)
    together, alone = gradcam(pixels()), [gradcam(image[None])[0] for image in pixels()]
    for among_others, by_itself in zip(together, alone, strict=True):
        assert among_others.class_index == by_itself.class_index
        assert among_others.values == pytest.approx(by_itself.values, rel=1e-3, abs=1e-6)


def test_a_head_that_reads_the_first_token_alone_sees_no_patch_at_the_last_layer(tmp_path):
    save_classifier("vit", tmp_path)
    class_maps = load_gradcam(info_of(tmp_path, -1), CPU)(pixels())
    assert all(not class_map.values.any() for class_map in class_maps)


def test_a_backbone_without_a_trained_head_is_refused(tmp_path):
    for kind, reason in (("dinov2", "hold no classifier"), ("mobilenet", "hold no classifier"), ("dinov3", "no class")):
        folder = save_model(kind, tmp_path / kind)
        with pytest.raises(BackboneError, match=reason) as refused:
            load_gradcam(info_of(folder, 2), CPU)
        assert "google/vit-base-patch16-224" in str(refused.value)
    texture = load_backbone(Texture()).info
    with pytest.raises(BackboneError, match="texture has no classifier"):
        load_gradcam(texture, CPU)


def test_a_classifier_whose_weights_have_changed_since_is_refused(tmp_path):
    save_classifier("resnet", tmp_path)
    info = info_of(tmp_path, -1)
    save_classifier("resnet", tmp_path, seed=1)
    with pytest.raises(BackboneError, match="has revision"):
        load_gradcam(info, CPU)
