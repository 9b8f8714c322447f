"""Add a classifier that was made elsewhere as a victim: upload, check, accept."""

import tempfile
from pathlib import Path

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from dcp_core import ui
from dcp_core.data.images import to_image
from dcp_core.files import explained
from dcp_core.given import EXPORT, Examination, accept, check_name, examine, parse_classes, unpack
from dcp_core.models.given_onnx import OUTPUTS
from dcp_core.models.inference import to_pixels
from dcp_core.models.preprocessing import Preprocessing

ui.frame("Your classifier", "How well can it be stolen? First make it a victim here.")

MODEL_MB, DATA_MB = 400, 400
SHOWN = 8  # test pictures
FOUND, MADE = "own_found", "own_made"
UPLOAD, HERE = "upload", "on this machine"
PRESETS = {
    "": "find out",
    "unit": "0 to 1",
    "imagenet": "normalised with the mean and std of ImageNet",
    "symmetric": "-1 to 1",
    "bytes": "0 to 255",
    "caffe": "BGR, 0 to 255 minus a mean",
}


def ask() -> None:
    """The files, what is known about them, and the button that starts the check."""
    where = st.segmented_control(
        "The files are", [UPLOAD, HERE], default=UPLOAD, required=True, key="own_where", **ui.IN_URL
    )
    left, right = st.columns(2, gap="medium")
    model: UploadedFile | str | None
    data: UploadedFile | str | None
    if where == UPLOAD:
        model = left.file_uploader(
            "The classifier: an ONNX file", key="own_model", max_upload_size=MODEL_MB, on_change=forget
        )
        data = right.file_uploader(
            "Labelled test pictures: a zip with one folder for each class, or an .npz file with images and labels",
            type=["zip", "npz"],
            key="own_data",
            max_upload_size=DATA_MB,
            on_change=forget,
        )
    else:
        model = left.text_input("Path of the ONNX file", key="own_model_path", on_change=forget, **ui.IN_URL)
        data = right.text_input(
            "Path of the test pictures: a folder with one folder for each class, or an .npz file",
            key="own_data_path",
            on_change=forget,
            **ui.IN_URL,
        )
    with st.expander("What you know about it", icon=":material/tune:"):
        preset = ui.select("Values of pixels", PRESETS, "own_preset")
        size = st.number_input(
            "Side of its pictures in pixels (0: what the file says)", 0, 1024, 0, key="own_size", **ui.IN_URL
        )
        crop = st.number_input(
            "Share of the centre square's side that it sees", 0.1, 1.0, 1.0, 0.005, key="own_crop", **ui.IN_URL
        )
        outputs = ui.select("Its outputs are", {"": "find out"} | {each: each for each in OUTPUTS}, "own_outputs")
        classes = st.text_area(
            "Names of its outputs in their order, one a line (empty: the folders in alphabetical order)",
            key="own_classes",
        )
    if st.button(
        "Check", key="own_check", type="primary", icon=":material/fact_check:", disabled=not (model and data)
    ):
        st.session_state.pop(MADE, None)
        asked = dict(Preprocessing.PRESETS[preset]) if preset else {}
        asked |= {"order": asked.get("order", "RGB")} if preset else {}
        asked |= ({"size": int(size)} if size else {}) | ({"crop": crop} if crop < 1 else {})
        assert model is not None
        assert data is not None
        with ui.errors_explained():
            try:
                check_files(model, data, asked, outputs, classes)
            except OSError as error:
                raise ValueError(explained(error, "check again")) from error


def forget() -> None:
    """Forget the check of other files."""
    st.session_state.pop(FOUND, None)
    st.session_state.pop(MADE, None)


def check_files(
    model: UploadedFile | str, data: UploadedFile | str, asked: dict[str, object], outputs: str, classes: str
) -> None:
    """Measure the classifier, with a progress bar, and keep what was found for this session."""
    bar = st.progress(0.0, "opening the network")
    with tempfile.TemporaryDirectory() as folder:
        file, pictures = written(model, Path(folder)), written(data, Path(folder))
        if pictures.suffix == ".zip":
            bar.progress(0.0, "unpacking the pictures")
            pictures = unpack(pictures, Path(folder) / "pictures")
        names = parse_classes(classes) if classes.strip() else None
        examining = examine(file, str(pictures), classes=names, preprocessing=asked, outputs=outputs or None)
        while True:
            try:
                step = next(examining)
            except StopIteration as end:
                st.session_state[FOUND] = end.value
                break
            bar.progress(min(1.0, step.fraction), step.phase)
    bar.empty()


def written(given: UploadedFile | str, folder: Path) -> Path:
    """The path of a file that was uploaded, below a folder, or of one on this machine."""
    if isinstance(given, str):
        return Path(given).expanduser()
    path = folder / Path(given.name).name
    path.write_bytes(given.getbuffer())
    return path


def show(found: Examination) -> None:
    """What was measured, and the button that makes it a victim."""
    check = found.check
    st.subheader("What the check found", anchor=False)
    low, high = check.interval
    columns = st.columns(3)
    columns[0].metric(
        "Accuracy", f"{check.accuracy:.2f} %", f"{low:.1f} to {high:.1f} %", delta_color="off", delta_arrow="off"
    )
    columns[1].metric("Always naming the most frequent class", f"{check.chance:.1f} %")
    columns[2].metric("Test pictures", f"{check.count:,}")
    for sentence in found.words():
        if sentence in check.findings:
            st.warning(ui.plain(sentence), icon=":material/report:")
        elif not sentence.startswith("accuracy"):
            st.markdown(ui.plain(sentence[0].upper() + sentence[1:]))
    best = check.logits[:SHOWN].softmax(1).max(1)
    captions = [
        f"{ui.plain(found.classes[truth])}: answered {ui.plain(found.classes[guess])}, {100 * sure:.0f} %"
        for truth, guess, sure in zip(
            found.labels[:SHOWN].tolist(), best.indices.tolist(), best.values.tolist(), strict=True
        )
    ]
    st.image([to_image(each) for each in to_pixels(found.images[:SHOWN])], captions, width=110)
    with st.expander("Preprocessings that were tried on a sample", icon=":material/table:"):
        st.dataframe(
            {"preprocessing": list(check.tried), "accuracy in %": list(check.tried.values())}, hide_index=True
        )
    st.subheader("Make it a victim", anchor=False)
    name = st.text_input("Name", key="own_name", placeholder="my-classifier")
    if st.button("Accept", key="own_accept", type="primary", icon=":material/check:", disabled=not name):
        with ui.errors_explained():
            check_name(name)
            try:
                with st.spinner("Storing ..."):
                    st.session_state[MADE] = accept(name, found)
            except OSError as error:
                raise ValueError(explained(error, "accept again")) from error
        del st.session_state[FOUND]
        st.rerun()


def made() -> None:
    """Where to go with the new victim."""
    card = st.session_state[MADE]
    st.success(
        f"**{ui.plain(card.name)}** is a victim now: {card.test_accuracy:.2f} % of {card.test_pictures:,} test pictures.",
        icon=":material/check_circle:",
    )
    with st.container(horizontal=True):
        ui.link("playground", "See a defense change its answers", "tune", **ui.victim_state(card))
        ui.link("tradeoffs", "See what protection costs", "balance", **ui.victim_state(card, ui.TRADEOFFS))
        ui.link("attack_lab", "Steal it", "science", **ui.victim_state(card, "a_"))
    st.caption("Remove it with this command:")
    st.code(f"python -m dcp_core victims remove {card.name}", language="bash")


st.markdown(
    "Your classifier is measured on your labelled test pictures. Nothing is stored until you accept the result. An ONNX "
    "file has numbers and no code; other formats are refused, because opening them can run code."
)
with st.expander("How to get an ONNX file from PyTorch", icon=":material/help:"):
    st.code(EXPORT, language="python")
ask()
if FOUND in st.session_state:
    show(st.session_state[FOUND])
elif MADE in st.session_state:
    made()
