"""Every model file that Mirage can use but does not ship: where it is, what it must be, and what its licence allows.

A file without a sha256 here is one whose hash nobody can state: `mirage models pull` asks for `--sha256` and records
it. A setting may change where a file comes from, never what it must be.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelLicence:
    """Terms of some files. Those that do not allow commercial use are accepted once, by name, before a pull."""

    id: str
    title: str
    commercial: bool | None
    """None: not known, and treated as no."""
    terms: str
    """Where to read them."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of the store."""

    name: str
    what_for: str
    licence: ModelLicence
    size: int | None
    """Bytes; None where not known."""
    sha256: str | None
    url: str | None
    """None: it is made here, by `mirage models convert`."""
    url_setting: str | None = None
    """The `MIRAGE_*` variable that may replace `url`."""
    archive: "ModelFile | None" = None
    """The zip that it is taken out of; `url` is None then."""

    @property
    def source(self) -> "ModelFile":
        """Return what is downloaded to get it: the archive, or the file."""
        return self.archive or self


INSIGHTFACE = ModelLicence(
    "insightface",
    "InsightFace model licence: non-commercial research only",
    commercial=False,
    terms="https://github.com/deepinsight/insightface#license",
)
S_LAB = ModelLicence(
    "s-lab",
    "NTU S-Lab License 1.0: non-commercial",
    commercial=False,
    terms="https://github.com/sczhou/CodeFormer/blob/master/LICENSE",
)
RVC_MIT = ModelLicence(
    "rvc-mit",
    "MIT, as the repository states",
    commercial=True,
    terms="https://huggingface.co/lj1995/VoiceConversionWebUI",
)
MOESS = ModelLicence(
    "contentvec",
    "ContentVec itself is MIT; the licence of this export is not known",
    commercial=None,
    terms="https://huggingface.co/NaruseMioShirakana/MoeSS-SUBModel",
)

MEDIAPIPE = ModelLicence(
    "mediapipe",
    "Apache-2.0, as Google's model card states",
    commercial=True,
    terms="https://storage.googleapis.com/mediapipe-assets/Model%20Card%20Multiclass%20Segmentation.pdf",
)

BUFFALO_L = ModelFile(
    "buffalo_l.zip",
    "archive of the two files below",
    INSIGHTFACE,
    288_621_354,
    "80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f",
    "https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip",
)

DETECTOR = "det_10g.onnx"
RECOGNISER = "w600k_r50.onnx"
SWAPPER = "inswapper_128_fp16.onnx"
SWAPPER_FP32 = "inswapper_128.onnx"
CODEFORMER_WEIGHTS = "codeformer.pth"
CODEFORMER = "codeformer.onnx"
SEGMENTER = "selfie_multiclass_256x256.onnx"
CONTENT_ENCODER = "vec-768-layer-12.onnx"
PITCH = "rmvpe.onnx"
VOICES = "voices/"
"""Names of user-supplied voices begin with this: `voices/NAME.onnx`."""

_FILES = (
    ModelFile(
        DETECTOR,
        "face: detection (SCRFD-10G-KPS)",
        INSIGHTFACE,
        16_923_827,
        "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
        None,
        archive=BUFFALO_L,
    ),
    ModelFile(
        RECOGNISER,
        "face: identity embedding, at enrolment (ArcFace)",
        INSIGHTFACE,
        None,
        "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        None,
        archive=BUFFALO_L,
    ),
    ModelFile(
        SWAPPER,
        "face: swap, half precision",
        INSIGHTFACE,
        277_680_638,
        "6d51a9278a1f650cffefc18ba53f38bf2769bf4bbff89267822cf72945f8a38b",
        "https://huggingface.co/hacksider/deep-live-cam/resolve/main/inswapper_128_fp16.onnx",
        url_setting="MIRAGE_INSWAPPER_URL",
    ),
    ModelFile(
        SWAPPER_FP32,
        "face: swap, full precision, where half fails its self-test",
        INSIGHTFACE,
        554_253_681,
        "e4a3f08c753cb72d04e10aa0f7dbe3deebbf39567d4ead6dce08e98aa49e16af",
        "https://huggingface.co/ezioruan/inswapper_128.onnx/resolve/main/inswapper_128.onnx",
    ),
    ModelFile(
        CODEFORMER_WEIGHTS,
        "face: enhancement, weights to convert",
        S_LAB,
        376_637_898,
        "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
        url_setting="MIRAGE_CODEFORMER_URL",
    ),
    ModelFile(CODEFORMER, "face: enhancement (optional)", S_LAB, None, None, None),
    ModelFile(
        SEGMENTER,
        "face: what lies before it (optional)",
        MEDIAPIPE,
        16_454_560,
        "35ec1ecd9ee7f85073c99c00020b7f6751b69506eeacf683bc8665f6117f85b0",
        "https://huggingface.co/senty-au/selfie_multiclass_256x256-ONNX/resolve/"
        "6db8421a7150ac20558f2c24675078eb3a1a04d0/onnx/model.onnx",
    ),
    ModelFile(
        CONTENT_ENCODER,
        "voice: content (ContentVec, layer 12)",
        MOESS,
        # No page of its publisher's that could be read states a hash; five public manifests of separate makers agree.
        377_655_729,
        "b3886e7dff1495cda514f94f4680a7b1261e05d6929f5c764cdb17934b413c2a",
        "https://huggingface.co/NaruseMioShirakana/MoeSS-SUBModel/resolve/main/vec-768-layer-12.onnx",
    ),
    ModelFile(
        PITCH,
        "voice: pitch (RMVPE)",
        RVC_MIT,
        361_688_443,
        "5370e71ac80af8b4b7c793d27efd51fd8bf962de3a7ede0766dac0befa3660fd",
        "https://huggingface.co/lj1995/VoiceConversionWebUI/resolve/e6d0c1a17da07c33557852f9dfa2bd44cc75737d/rmvpe.onnx",
    ),
)

MANIFEST: Mapping[str, ModelFile] = {file.name: file for file in _FILES}

GROUPS: Mapping[str, tuple[str, ...]] = {
    "face": (DETECTOR, RECOGNISER, SWAPPER),
    "voice": (PITCH, CONTENT_ENCODER),
    "enhance": (CODEFORMER_WEIGHTS,),
    "occlusion": (SEGMENTER,),
}
"""What `mirage models pull` takes beside single names, and `all`."""

LICENCE_IDS: tuple[str, ...] = tuple(dict.fromkeys(file.licence.id for file in _FILES))
"""What `--accept-licence` takes."""
