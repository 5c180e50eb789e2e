"""Walk the graph of a functional model.

Only this module uses Keras's private names, apart from classes that override Keras's methods. So a
release of Keras can break only these.
"""

import contextlib
import inspect
import random
import threading

import keras
from keras.src.backend.common import global_state
from keras.src.saving import saving_lib

from keras_mixers import arguments


def functional(model):
    """The functional model inside a built Sequential model, or a functional model itself.

    Raises:
        ValueError: if the model is neither functional nor a built Sequential.
    """
    if isinstance(model, keras.Sequential) and model.built:
        return model._functional
    if not is_functional(model):
        raise ValueError(
            "`model` must be a functional or Sequential model that is built. Received:"
            f" model={arguments.shown(model)}"
        )
    return model


def is_functional(operation):
    """Whether an operation is a model with a graph: functional, or a built Sequential model."""
    built = isinstance(operation, keras.Sequential) and operation.built
    return built or (isinstance(operation, keras.Model) and hasattr(operation, "_nodes_by_depth"))


def nodes(model):
    """The calls in a model's graph without its inputs, as Keras nodes in order of execution."""
    by_depth = functional(model)._nodes_by_depth
    ordered = (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth])
    return [node for node in ordered if not node.is_input]


def named_nodes(model, path=""):
    """Yield (name, node) for each call in order of execution.

    The second call of a layer is named `name:1`, the third `name:2`. `path` precedes each name.
    """
    counts = {}
    for node in nodes(model):
        name = path + node.operation.name
        count = counts[name] = counts.get(name, -1) + 1
        yield (f"{name}:{count}" if count else name), node


def layer_calls(model, path=""):
    """`{name: node}` for each call of a layer in order of execution.

    The calls inside a nested model `inner` are named `inner/name`.
    """
    found = {}
    for name, node in named_nodes(model, path):
        if is_functional(node.operation):
            found.update(layer_calls(node.operation, f"{name}/"))
        else:
            found[name] = node
    return found


def graph_layers(model):
    """Yield the layers of a model and of models nested in it, in the order they were added."""
    for layer in model.layers:
        nested = isinstance(layer, keras.Model) and getattr(layer, "inputs", None)
        yield from graph_layers(layer) if nested else [layer]


def all_layers(layer):
    """All layers inside a model or layer, at any depth, each once."""
    return layer._flatten_layers(include_self=False)


def lora_matrices(layer):
    """The variables `[A, B]` of a layer that adds `alpha / rank * A B` to its kernel, else `[]`.

    A quantized kernel does not count, because the update belongs to the kernel before.
    """
    enabled = getattr(layer, "lora_enabled", False) and hasattr(layer, "lora_kernel_a")
    quantized = getattr(layer, "quantization_mode", None)
    return [layer.lora_kernel_a, layer.lora_kernel_b] if enabled and not quantized else []


def lora_layers(model):
    """The layers inside a model that have `lora_matrices`."""
    return [layer for layer in all_layers(model) if lora_matrices(layer)]


@contextlib.contextmanager
def disabled_lora(model):
    """A scope in which the layers of `lora_layers` compute, and Keras saves, without the update."""
    enabled = lora_layers(model)
    try:
        for layer in enabled:
            layer.lora_enabled = False
        yield
    finally:
        for layer in enabled:
            layer.lora_enabled = True


def sublayers(layer):
    """`{attribute: layer}`: the layers that a layer keeps as attributes, in order of creation.

    On torch a Keras layer is a `torch.nn.Module`, which keeps them outside of `vars(layer)`.
    """
    attributes = {**vars(layer), **vars(layer).get("_modules", {})}
    return {
        name: value for name, value in attributes.items() if isinstance(value, keras.layers.Layer)
    }


def producer(tensor):
    """The layer or operation that computes a symbolic tensor, also inside nested models."""
    operation = tensor._keras_history.operation
    while isinstance(operation, keras.Model):
        operation = operation.outputs[0]._keras_history.operation
    return operation


def run(model, x, visit, path=""):
    """Compute a model, with `visit(name, layer, *args, **kwargs) -> outputs` for each call.

    The calls inside a nested model `inner` are named `inner/name`. The model and its layers do not
    change. Returns the list of the model's outputs.
    """
    graph = functional(model)
    values = dict(zip(map(id, graph.inputs), keras.tree.flatten(x), strict=True))
    for name, node in named_nodes(model, path):
        args, kwargs = node.arguments.fill_in(values)
        if is_functional(node.operation):
            y = run(node.operation, args, visit, f"{name}/")
        else:
            if "training" in inspect.signature(node.operation.call).parameters:
                kwargs["training"] = False  # because Keras's augmentation layers augment by default
            y = visit(name, node.operation, *args, **kwargs)
        values.update(zip(map(id, node.outputs), keras.tree.flatten(y), strict=True))
    return [values[id(output)] for output in graph.outputs]


def unnested_outputs(model, inputs=None, path=""):
    """Yield `(name, output)` for each call: symbolic tensors, as if no model were nested.

    The tensors lead from the inputs of the outermost model through the layers themselves. For this,
    the function calls the layers of a nested model again, on the tensors that the nested model
    receives, when the iteration reaches them. `inputs` replaces the inputs of the model.

    The generator returns the list of the model's outputs.
    """
    graph = functional(model)
    values = {id(x): y for x, y in zip(graph.inputs, inputs or graph.inputs, strict=True)}
    for name, node in named_nodes(model, path):
        args, kwargs = node.arguments.fill_in(values)
        if is_functional(node.operation):
            inside = keras.tree.flatten(args)
            outputs = yield from unnested_outputs(node.operation, inside, f"{name}/")
        else:
            is_new = any(values[id(x)] is not x for x in node.input_tensors)
            outputs = node.operation(*args, **kwargs) if is_new else node.outputs
            outputs = keras.tree.flatten(outputs)
            yield name, outputs[0]
        values.update(zip(map(id, node.outputs), outputs, strict=True))
    return [values[id(output)] for output in graph.outputs]


def uninitialized_variables():
    """Keras's list of the variables whose initialization it postpones; Keras appends to it."""
    return global_state.get_global_attribute("uninitialized_variables", [], set_to_default=True)


@contextlib.contextmanager
def unrecorded_build():
    """Make a context after which the next model gets the names and seeds of one built inside it.

    Keras numbers unnamed layers, and draws the seeds of initializers from Python's generator.
    """
    numbers = global_state.get_global_attribute("object_name_uids")
    state = random.getstate()
    if numbers is not None:
        global_state.set_global_attribute("object_name_uids", numbers.copy())
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", numbers)
        random.setstate(state)


def create_training_state(model, batch=None):
    """Create the variables of a compiled model's optimizer and metrics, before its first step.

    Keras creates them within the first step on TensorFlow, which then traces this step again. The
    metrics of a model with several outputs are left to Keras.

    Args:
        model: a functional model.
        batch: a batch as (images, labels), or the `tf.TypeSpec`s of one; None if it is not known.
    """
    optimizer, metrics = model.optimizer, model._compile_metrics
    if optimizer and not optimizer.built and model.trainable_variables:
        optimizer.build(model.trainable_variables)
    _, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
    shape = getattr(labels, "shape", None)
    known = isinstance(shape, tuple) or getattr(shape, "rank", None) is not None
    if metrics and not metrics.built and known and len(model.outputs) == 1:
        labels = keras.KerasTensor(shape, labels.dtype.name)
        metrics.build(labels, model.outputs[0])


def decay_method(kind):
    """The method of a class of optimizers that decays weights, as a function."""
    return kind._apply_weight_decay


def decayed(optimizer, variables):
    """The variables that an optimizer decays, as TensorFlow's, which Keras asks for."""
    values = [v.value if isinstance(v, keras.Variable) else v for v in variables]
    return [value for value in values if optimizer._use_weight_decay(value)]


def moving_averages(optimizer, variable):
    """Adam's averages of the gradients of a variable and of their squares, as variables."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def saved_variables(model):
    """(`{path: variable}`, `{path of a layer: its name}`) of all that Keras saves of a model.

    The paths are those in a `.weights.h5`. The optimizer's variables are among them if the model is
    compiled. LoRA matrices are not, because Keras saves their sum with the kernel.
    """
    recorder, optimizer = PathRecorder(), getattr(model, "optimizer", None)
    with disabled_lora(model):
        saving_lib._save_state(model, recorder, None, "", visited_saveables={id(optimizer)})
    path = "optimizer"
    while optimizer is not None:  # because it saves copies of its variables
        slots = {f"{path}/vars/{i}": v for i, v in enumerate(optimizer.variables)}
        recorder.variables |= slots
        path, optimizer = f"{path}/inner_optimizer", getattr(optimizer, "inner_optimizer", None)
    return recorder.variables, recorder.names


class PathRecorder(saving_lib.H5IOStore):
    """A store for Keras to save into, which records the variables and writes nothing."""

    def __init__(self):
        self.variables, self.names, self.path = {}, {}, ""

    def __bool__(self):
        return True

    def make(self, path, metadata=None):
        self.path = path
        self.names[path] = (metadata or {}).get("name")
        return self

    def __setitem__(self, key, value):
        if isinstance(value, keras.Variable):
            self.variables[f"{self.path}/vars/{key}".lstrip("/")] = value


@contextlib.contextmanager
def other_values(variables, values):
    """A scope in which the variables have other values on JAX, outside of any distribution.

    Keras creates variables when it saves a file. In a distribution, it would do that in all
    processes together, and could not do it in a `keras.StatelessScope`.
    """
    before = [(variable, variable._value, variable._layout) for variable in variables]
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        for variable, value in zip(variables, values, strict=True):
            variable._layout = None
            variable.assign(value)
        yield
    finally:
        for variable, value, layout in reversed(before):
            variable._value, variable._layout = value, layout
        keras.distribution.set_distribution(distribution)


@contextlib.contextmanager
def uncast_weights():
    """A scope in which a layer reads its weights in their dtype, not in that of the computation."""
    scope = global_state.get_global_attribute("autocast_scope")
    global_state.set_global_attribute("autocast_scope", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("autocast_scope", scope)


class Float32InThreads(keras.DTypePolicy):
    """The policy `"mixed_bfloat16"`, which is `"float32"` in some threads."""

    LOCK = threading.Lock()  # of all changes

    def __init__(self, original):
        super().__init__("mixed_bfloat16")
        self.original, self.threads = original, set()

    @property
    def __class__(self):
        """Keras's class, because another thread may save or compare the policy meanwhile."""
        return keras.DTypePolicy

    @property
    def compute_dtype(self):
        return "float32" if threading.get_ident() in self.threads else super().compute_dtype

    @classmethod
    def enter(cls, layer):
        """Let a layer compute in float32 in this thread."""
        with cls.LOCK:
            if not isinstance(layer._dtype_policy, cls):
                layer._dtype_policy = cls(layer._dtype_policy)
            layer._dtype_policy.threads.add(threading.get_ident())

    @classmethod
    def leave(cls, layer):
        """Undo `enter`; the last thread gives the layer its own policy."""
        with cls.LOCK:
            policy = layer._dtype_policy
            policy.threads.remove(threading.get_ident())
            if not policy.threads:
                layer._dtype_policy = policy.original


@contextlib.contextmanager
def float32_inside(layer):
    """A scope in which the layers inside a layer compute in float32 if theirs are float32 weights.

    Other threads, which may call the same layers, do not notice it. Layers with another dtype
    policy than `"mixed_bfloat16"`, such as quantized ones, keep it.
    """
    with contextlib.ExitStack() as stack:
        for each in all_layers(layer):
            # Not in float32, as it is inside such a scope.
            if each._dtype_policy.name == "mixed_bfloat16" and each.compute_dtype == "bfloat16":
                Float32InThreads.enter(each)
                stack.callback(Float32InThreads.leave, each)
        stack.enter_context(uncast_weights())
        yield


def infers_shapes():
    """Whether Keras calls a layer only to find out the shapes of its outputs."""
    return global_state.get_global_attribute("symbolic_scope") is not None
