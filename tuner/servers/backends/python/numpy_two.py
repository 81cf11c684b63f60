# Appended to Triton's triton_python_backend_utils.py; of use where models run with numpy 2.
#
# The stub of the embedded server was built for numpy 1. It looks for the size of an array's
# elements at a place where numpy 2 keeps something else: inputs would repeat their first element,
# and outputs would be empty. DLPack needs no such look. It has no strings: they need numpy 1.
import ctypes as _ctypes
import sys as _sys
import types as _types

import numpy as _np

_set_destructor = _ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = (_ctypes.py_object, _ctypes.c_void_p)


def _capsule(array):
    """For a consumer that renames what it took otherwise than numpy expects: numpy's check when
    the capsule goes would fail. What it holds is freed by its consumer.
    """
    capsule = _np.require(array, requirements=["C", "W"]).__dlpack__()
    _set_destructor(capsule, None)
    return capsule


class _Writable:
    """The memory of an array that came read-only out of DLPack, as it is the model's own."""

    def __init__(self, array):
        self._owner = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _as_numpy(self):
    try:
        array = _np.from_dlpack(self)
    except Exception as error:
        raise TypeError(
            f"input {self.name()!r} cannot be read with numpy {_np.__version__}; install numpy<2"
        ) from error
    return _np.asarray(_Writable(array))


def _made_through_dlpack(tensor):
    class Tensor(tensor):
        def __new__(cls, name, array):
            if array.dtype.kind not in "biuf":
                raise TypeError(
                    f"output {name!r}: the embedded server sends no {array.dtype} with numpy "
                    f"{_np.__version__}; install numpy<2"
                )
            return tensor.from_dlpack(name, _capsule(array))

    tensor.as_numpy = _as_numpy
    return Tensor


class _Module(_types.ModuleType):
    """The stub puts its own Tensor into this module after it was imported."""

    def __setattr__(self, name, value):
        if name == "Tensor":
            value = _made_through_dlpack(value)
        super().__setattr__(name, value)


if int(_np.__version__.partition(".")[0]) >= 2:
    _sys.modules[__name__].__class__ = _Module
