"""Types of the native module (native/loader.cpp)."""

can_load: bool

class BadObject(ValueError): ...

class Code:
    """Objects in memory; their functions may be called while this lives."""

    def __init__(self, objects: list[bytes], known: dict[str, int]) -> None: ...
    @property
    def functions(self) -> dict[str, int]:
        """Where each function lies."""
