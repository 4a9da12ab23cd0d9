"""Bytes for people."""


def size_text(count: float) -> str:
    """Return a number of bytes in the unit that suits, three digits: "1.4 TB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
