"""Uploaded files, which are kept while the user visits other pages."""

from collections.abc import Iterator

import streamlit as st
from PIL import Image
from streamlit.runtime.uploaded_file_manager import UploadedFile

from dcp_core.data.archives import read_archive
from dcp_core.data.images import ImageError, read_image


def keep(key: str) -> None:
    """Store what was uploaded, or forget what was removed: Streamlit forgets uploads when the user leaves the page."""
    files = st.session_state[key]
    st.session_state[f"kept_{key}"] = files if isinstance(files, list) else [files] if files else []


def kept(key: str) -> list[UploadedFile]:
    """The files of an upload control, also those from before another page was visited."""
    files = st.session_state.get(f"kept_{key}", [])
    if files and not st.session_state[key]:
        st.caption(f"Uploaded before: {', '.join(file.name for file in files)}")
        st.button("Remove", key=f"remove_{key}", icon=":material/close:", on_click=keep, args=(key,))
    for file in files:
        file.seek(0)
    return files


def pictures_in(file: UploadedFile) -> Iterator[tuple[str, Image.Image | ImageError]]:
    """The pictures of an uploaded file, of a zip file all of them, with their names; an error for one that is unreadable."""
    try:
        if file.name.lower().endswith(".zip"):
            yield from read_archive(file)
        else:
            yield file.name, read_image(file)
    except ImageError as error:
        yield file.name, error
