"""Add a classifier that was made elsewhere as a victim: upload, check, accept."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.uploaded_file_manager import UploadedFile

from dcp_core import ui
from dcp_core.data.tensors import to_image
from dcp_core.files import explained
from dcp_core.given import (
    EXAMPLE,
    EXPORT,
    Examination,
    ServiceExamination,
    accept,
    accept_service,
    check_name,
    examine,
    examine_service,
    parse_classes,
    unpack,
)
from dcp_core.given.pictures import MOST
from dcp_core.given.services import USUAL
from dcp_core.making import Making, finish
from dcp_core.models.given_onnx import OUTPUTS
from dcp_core.models.inference import to_pixels
from dcp_core.models.preprocessing import Preprocessing
from dcp_core.runs.store import check_unused

ui.frame("Your classifier", "How well can your classifier be stolen? First make it a victim here.")

MODEL_MB, DATA_MB = 400, 400
SHOWN = 8  # test pictures
Found = Examination | ServiceExamination
FOUND, MADE = "own_found", "own_made"
UPLOAD, HERE, SERVICE = "upload", "on this machine", "a prediction service"
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
        "The classifier is", [UPLOAD, HERE, SERVICE], default=UPLOAD, required=True, key="own_where", **ui.IN_URL
    )
    if where == SERVICE:
        ask_service()
        return
    left, right = st.columns(2, gap="medium")
    model: UploadedFile | str | None
    data: UploadedFile | str | None
    if where == UPLOAD:
        model = left.file_uploader(
            "The classifier: an ONNX file, or safetensors weights",
            key="own_model",
            max_upload_size=MODEL_MB,
            on_change=forget,
        )
        data = upload_pictures(right)
    else:
        model = left.text_input(
            "Path of an ONNX file, safetensors weights, or a folder of timm or Hugging Face; or hf:OWNER/NAME, timm:NAME",
            key="own_model_path",
            on_change=forget,
            **ui.IN_URL,
        )
        data = right.text_input(
            "Path of the test pictures: a folder with one folder for each class, an .npz file, or hf-dataset:OWNER/NAME",
            key="own_data_path",
            on_change=forget,
            **ui.IN_URL,
        )
    with st.expander("What you know about it", icon=":material/tune:"):
        preset = ui.select("Values of pixels", PRESETS, "own_preset")
        size = st.number_input(
            "Side of the input pictures in pixels (0: what the file says)", 0, 1024, 0, key="own_size", **ui.IN_URL
        )
        crop = st.number_input(
            "Share of the centre square's side that the classifier sees",
            0.1,
            1.0,
            1.0,
            0.005,
            key="own_crop",
            **ui.IN_URL,
        )
        outputs = ui.select("Its outputs are", {"": "find out"} | {each: each for each in OUTPUTS}, "own_outputs")
        network = st.text_input(
            "Architecture, for safetensors weights: such as resnet20, or torchvision:resnet18",
            key="own_network",
            **ui.IN_URL,
        )
        classes = st.text_area(
            "Names of its outputs in their order, one on each line (empty: the folders in alphabetical order)",
            key="own_classes",
        )
    if st.button(
        "Check", key="own_check", type="primary", icon=":material/fact_check:", disabled=not (model and data)
    ):
        asked = dict(Preprocessing.PRESETS[preset]) if preset else {}
        asked |= {"order": asked.get("order", "RGB")} if preset else {}
        asked |= ({"size": int(size)} if size else {}) | ({"crop": crop} if crop < 1 else {})
        assert model is not None
        assert data is not None
        with ui.errors_explained():
            names = parse_classes(classes) if classes.strip() else None
        run_check(
            model,
            data,
            lambda file, pictures: examine(
                file,
                str(pictures),
                classes=names,
                preprocessing=asked,
                outputs=outputs or None,
                network=network.strip() or None,
            ),
        )


def upload_pictures(place: DeltaGenerator) -> UploadedFile | None:
    """The control for labelled test pictures."""
    return place.file_uploader(
        "Labelled test pictures: a zip with one folder for each class, or an .npz file with images and labels",
        type=["zip", "npz"],
        key="own_data",
        max_upload_size=DATA_MB,
        on_change=forget,
    )


def ask_service() -> None:
    """The description of a service, the test pictures, the limits, and the button that sends them."""
    st.markdown(
        "Use only a service that is yours or that you may test. Every picture that it has not answered before is a request. "
        "Answers are kept, so that no picture is sent twice. Keys are read from environment variables and never stored."
    )
    with st.expander("How to describe a service", icon=":material/help:"):
        st.code(EXAMPLE, language="toml")
    left, right = st.columns(2, gap="medium")
    described = left.file_uploader(
        "The description: service.toml", type=["toml"], key="own_service", max_upload_size=1, on_change=forget
    )
    data = upload_pictures(right)
    columns = st.columns(3)
    most = columns[0].number_input(
        "Largest number of requests in all",
        1,
        10_000_000,
        5_000,
        key="own_requests",
        help="Also those of later attacks.",
        **ui.IN_URL,
    )
    price = columns[1].number_input("Price of 1,000 requests", 0.0, 1e6, 0.0, key="own_price", **ui.IN_URL)
    pictures = columns[2].number_input("Test pictures to send", 2, MOST, USUAL, key="own_pictures", **ui.IN_URL)
    money = f", which cost at most {most * price / 1000:.2f}" if price else ""
    mine = st.checkbox(
        f"The service is mine, or I may test it. Send up to {min(pictures, most):,} test pictures; attacks send more, "
        f"in all at most {most:,} requests{money}.",
        key="own_consent",
    )
    ready = bool(described and data and mine)
    if st.button(
        "Check", key="own_check_service", type="primary", icon=":material/fact_check:", disabled=not ready
    ):
        assert described is not None
        assert data is not None
        run_check(
            described,
            data,
            lambda file, folder: examine_service(
                file, str(folder), most_requests=int(most), price_per_1000=price, most=int(pictures)
            ),
        )


def forget() -> None:
    """Forget the check of other files."""
    st.session_state.pop(FOUND, None)
    st.session_state.pop(MADE, None)


def run_check(
    model: UploadedFile | str, data: UploadedFile | str, examining: Callable[[Path, Path], Making[Found]]
) -> None:
    """Measure the classifier, with a progress bar, and keep what was found for this session."""
    with ui.errors_explained():
        try:
            check_files(model, data, examining)
        except OSError as error:
            raise ValueError(explained(error, "check again")) from error


def check_files(
    model: UploadedFile | str, data: UploadedFile | str, examining: Callable[[Path, Path], Making[Found]]
) -> None:
    """See `run_check`."""
    st.session_state.pop(MADE, None)
    bar = st.progress(0.0, "opening the files")
    with tempfile.TemporaryDirectory() as folder:
        file, pictures = written(model, Path(folder)), written(data, Path(folder))
        if pictures.suffix == ".zip":
            bar.progress(0.0, "unpacking the pictures")
            pictures = unpack(pictures, Path(folder) / "pictures")
        st.session_state[FOUND] = finish(
            examining(file, pictures), lambda step: bar.progress(min(1.0, step.fraction), step.phase)
        )
    bar.empty()


def written(given: UploadedFile | str, folder: Path) -> Path:
    """The path of a file that was uploaded, below a folder, or of one on this machine."""
    if isinstance(given, str):
        return Path(given).expanduser()
    path = folder / Path(given.name).name
    path.write_bytes(given.getbuffer())
    return path


def show(found: Found) -> None:
    """Draw the result of the check, and the button that makes the classifier a victim."""
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
            st.markdown(ui.plain(sentence))
    best = check.logits[:SHOWN].softmax(1).max(1)
    captions = [
        f"{ui.plain(found.classes[truth])}: answered {ui.plain(found.classes[guess])}, {100 * sure:.0f} %"
        for truth, guess, sure in zip(
            found.labels[:SHOWN].tolist(), best.indices.tolist(), best.values.tolist(), strict=True
        )
    ]
    st.image([to_image(each) for each in to_pixels(found.images[:SHOWN])], captions, width=110)
    if len(check.tried) > 1:  # a service gets pictures, so that there is nothing to try
        with st.expander("Preprocessings that were tried on a sample", icon=":material/table:"):
            st.dataframe(
                {"preprocessing": list(check.tried), "accuracy in %": list(check.tried.values())}, hide_index=True
            )
    st.subheader("Make it a victim", anchor=False)
    name = st.text_input("Name", key="own_name", placeholder="my-classifier")
    if st.button("Accept", key="own_accept", type="primary", icon=":material/check:", disabled=not name):
        with ui.errors_explained():
            check_name(name)
            check_unused(name)
            try:
                with st.spinner("Storing ..."):
                    made = accept(name, found) if isinstance(found, Examination) else accept_service(name, found)
                    st.session_state[MADE] = made
            except OSError as error:
                raise ValueError(explained(error, "accept again")) from error
        del st.session_state[FOUND]
        st.rerun()


def made() -> None:
    """Draw links to the pages that can use the new victim."""
    card = st.session_state[MADE]
    st.success(
        f"**{ui.plain(card.name)}** is a victim now: {card.test_accuracy:.2f} % of {card.test_pictures:,} test pictures.",
        icon=":material/check_circle:",
    )
    with st.container(horizontal=True):
        ui.link("audit", "Audit it: one report", "fact_check", **ui.victim_state(card, "u_"))
        ui.link("playground", "See a defense change its answers", "tune", **ui.victim_state(card))
        ui.link("tradeoffs", "See what protection costs", "balance", **ui.victim_state(card, ui.TRADEOFFS))
        ui.link("attack_lab", "Steal it", "science", **ui.victim_state(card, "a_"))
    st.caption("Remove it with this command:")
    st.code(f"python -m dcp_core victims remove {card.name}", language="bash")


st.markdown(
    "Your classifier is measured on your labelled test pictures. Nothing is stored until you accept the result. An ONNX "
    "file has numbers and no code, and so have safetensors weights; formats that can run code when they are opened are "
    "refused."
)
with st.expander("How to get an ONNX file from PyTorch", icon=":material/help:"):
    st.code(EXPORT, language="python")
ask()
if FOUND in st.session_state:
    show(st.session_state[FOUND])
elif MADE in st.session_state:
    made()
