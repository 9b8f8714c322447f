"""What is said about the machine of a result."""

from dcp_core.provenance import hardware_words


def test_one_thread_is_no_plural_in_lines_of_earlier_versions_either() -> None:
    assert hardware_words("AMD EPYC (x86_64), 1 threads") == hardware_words("AMD EPYC (x86_64), 1 thread")
    assert hardware_words("AMD EPYC (x86_64), 1 threads") == "AMD EPYC (x86_64), 1 thread"
    assert hardware_words("AMD EPYC (x86_64), 11 threads") == "AMD EPYC (x86_64), 11 threads"
