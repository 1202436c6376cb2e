"""What the graphs of the neural face engine must look like."""

from workers.models.contract import GraphContract, Tensor

EMBEDDING = 512  # values of an identity
CROP = 128  # px, InSwapper's
RECOGNISER_CROP = 112  # px, ArcFace's
DETECTOR_SIDE = 640  # px
STRIDES = (8, 16, 32)
ANCHORS = 2  # a cell

_SCORES_BOXES_KEYPOINTS = (1, 4, 10)

DETECTOR = GraphContract(
    "an SCRFD face detector with five keypoints",
    (Tensor(None, "float32", (1, 3, None, None)),),
    tuple(Tensor(None, "float32", (None, values)) for values in _SCORES_BOXES_KEYPOINTS for _ in STRIDES),
)
"""Input RGB, (x - 127.5) / 128. Outputs by position: scores, boxes and keypoints, each for strides 8, 16, 32."""

DETECTOR_OF_BYTES = GraphContract(DETECTOR.what, (Tensor(None, "uint8", (1, None, None, 3)),), DETECTOR.outputs)
"""The same graph, edited when it is opened: input BGR as it is."""

RECOGNISER = GraphContract(
    "an ArcFace face recogniser",
    (Tensor(None, "float32", (None, 3, RECOGNISER_CROP, RECOGNISER_CROP)),),
    (Tensor(None, "float32", (None, EMBEDDING)),),
)
"""Input RGB, (x - 127.5) / 127.5."""

SWAPPER = GraphContract(
    "an InSwapper face swapper",
    (Tensor("target", "float32", (None, 3, CROP, CROP)), Tensor("source", "float32", (None, EMBEDDING))),
    (Tensor(None, "float32", (None, 3, CROP, CROP)),),
)
"""`target` RGB, x / 255; `source` a normalised latent; output RGB, 0..1."""

RESTORED_CROP = 512  # px, CodeFormer's
ENHANCER = GraphContract(
    "CodeFormer as `mirage models convert codeformer` makes it",
    (Tensor("image", "float32", (None, 3, RESTORED_CROP, RESTORED_CROP)), Tensor("w", "float32", ())),
    (Tensor("restored", "float32", (None, 3, RESTORED_CROP, RESTORED_CROP)),),
)
"""`image` RGB -1 … 1, `w` the fidelity 0 … 1; output like `image`, to be clipped."""

SEGMENTED = 256  # px, the segmenter's
SEGMENTER = GraphContract(
    "MediaPipe's multiclass selfie segmenter",
    (Tensor(None, "float32", (1, SEGMENTED, SEGMENTED, 3)),),
    (Tensor(None, "float32", (1, SEGMENTED, SEGMENTED, 6)),),
)
"""Input RGB, x / 255. Output logits: background, hair, skin of body, skin of face, clothes, things."""
