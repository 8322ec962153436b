"""A SavedModel is a program: before it is loaded, its operators are looked at. Those that layers are made of compute;
others read and write files, call Python, or reach other machines, and no model needs them.

An operator passes if TensorFlow declares it free of side effects and its name is not one of those that reach outside all
the same, or if it is one of the few that layers keep their state with.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ArtifactError
from zoo.files import one_line_if_damaged

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

__all__ = ["check_savedmodel"]

REACHING = re.compile(
    r"File|Filename|PyFunc|Dataset|Iterator|Debug|Summary|Reader|Queue|Barrier|Rpc|Remote|Collective|Nccl|Tpu|TPU|^Xla"
    r"|Immutable|Abort|Save|Restore|Snapshot|Infeed|Outfeed|Prelinearize|Session|Mlir|Assert(?:Next|Prev)|Test|^_|Foo"
    r"|CustomAggregator"
)
"""Operators that are declared free of side effects, and reach files, other code or other machines all the same."""

OF_FILES = re.compile(r"(?:^|_)(?:file|filename|filenames|path|address|descriptor_source)(?:_|$)")
"""Arguments of operators that name a file or a machine, whatever the operator is called."""

STATEFUL = {
    *(
        "VarHandleOp",
        "ReadVariableOp",
        "AssignVariableOp",
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "VariableShape",
    ),
    *("VarIsInitializedOp", "ResourceGather", "ResourceGatherNd", "DestroyResourceOp", "DisableCopyOnRead", "Variable"),
    *(
        "VariableV2",
        "StatefulPartitionedCall",
        "PartitionedCall",
        "If",
        "While",
        "Case",
        "Assert",
        "CheckNumerics",
        "Empty",
    ),
    *("HashTableV2", "MutableHashTableV2", "LookupTableFindV2", "LookupTableSizeV2", "LookupTableImportV2"),
    *("LookupTableInsertV2", "LookupTableExportV2", "InitializeTableV2", "AnonymousHashTable"),
    *("TensorArrayV3", "TensorArrayReadV3", "TensorArrayWriteV3", "TensorArrayGatherV3", "TensorArrayScatterV3"),
    *("TensorArraySizeV3", "TensorArrayCloseV3", "TensorArrayConcatV3", "TensorArraySplitV3"),
    *(
        "RandomUniform",
        "RandomStandardNormal",
        "RandomUniformInt",
        "RandomShuffle",
        "TruncatedNormal",
        "RngReadAndSkip",
    ),
    *("RngSkip", "StatefulUniform", "StatefulStandardNormalV2", "StatefulUniformInt", "StatefulTruncatedNormal"),
    *("StatelessRandomGetAlg", "GuaranteeConst", "RaggedTensorToVariant", "NoOp", "WordpieceTokenizeWithOffsets"),
}
"""Operators with state that layers are made of."""

SAVING = frozenset({"SaveV2", "MergeV2Checkpoints", "ShardedFilename"})
RESTORING = frozenset({"RestoreV2"})
CHECKPOINT_FUNCTION = re.compile(r"__inference__traced_(save|restore)_\d+")
"""What TensorFlow calls the two functions of a SavedModel that write and read its variables."""

OTHER_FORMS = ("saved_model.cpb", "saved_model.pbtxt")
"""Other files that hold a graph: which one is loaded is for TensorFlow to choose."""

TRUST = "if you know where it comes from, --trust opens it all the same"


def check_savedmodel(folder: Path) -> None:
    """Refuse a SavedModel that could do more than compute; nothing of it is loaded.

    Raises:
        ArtifactError: it is damaged; it holds such an operator, a link that leads out of it, or an asset outside; names it.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    folder = Path(folder)
    for name in OTHER_FORMS:
        if (folder / name).exists():
            raise ArtifactError(f"'{folder}' holds a second graph, '{name}', beside saved_model.pb: refused; {TRUST}")
    for file in folder.rglob("*"):
        if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
            raise ArtifactError(f"'{file}' is a link that leads out of the SavedModel: refused; {TRUST}")
    saved = saved_model_pb2.SavedModel()
    with one_line_if_damaged(folder / "saved_model.pb", "export again"):
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        for asset in graph.asset_file_def:
            if Path(asset.filename).name != asset.filename:
                raise ArtifactError(f"'{folder}' names an asset outside of itself ('{asset.filename}'): refused")
        refused = _refused(graph)
        if refused:
            listed = ", ".join(f"{name} ({count})" for name, count in sorted(refused.items())[:5])
            raise ArtifactError(
                f"'{folder}' holds operators that can do more than compute, such as read or write files or run other code: "
                f"{listed}: refused; {TRUST}"
            )


def _refused(graph: "MetaGraphDef") -> Counter:
    """The operators of a graph and of its functions that may not be there, with how often they are."""
    standard = _checkpoint_functions(graph)
    found = Counter(node.op for node in graph.graph_def.node)
    for function in graph.graph_def.library.function:
        allowed = standard.get(function.signature.name, frozenset())
        found += Counter(node.op for node in function.node_def if not _of_checkpoints(node, function, allowed))
    own = {function.signature.name for function in graph.graph_def.library.function}
    return Counter({name: count for name, count in found.items() if name not in own and not _harmless(name)})


def _harmless(name: str) -> bool:
    from tensorflow.python.framework import op_def_registry

    if name in STATEFUL:
        return True
    known = op_def_registry.get(name)
    if known is None or known.is_stateful or REACHING.search(name):
        return False
    return not any(OF_FILES.search(part.name) for part in (*known.input_arg, *known.attr))


def _checkpoint_functions(graph: "MetaGraphDef") -> dict[str, frozenset[str]]:
    """The function that writes the variables and the one that reads them, with the operators that each may hold; they are
    called by the graph's saver, and by nothing else. The one that reads runs when the model is opened, of the file that
    the saver is given then."""
    saver = graph.saver_def
    filename = saver.filename_tensor_name.split(":")[0]
    roles = {saver.save_tensor_name.split(":")[0]: SAVING}
    if saver.restore_op_name not in roles:
        roles[saver.restore_op_name] = RESTORING
    called: dict[str, frozenset[str]] = {}
    elsewhere = set(graph.object_graph_def.concrete_functions)
    for node in graph.graph_def.node:
        for name in _functions_of([node]):
            of_file = bool(node.input) and node.input[0].split(":")[0] == filename
            if node.name not in roles or not of_file or called.get(name, roles[node.name]) != roles[node.name]:
                elsewhere.add(name)
            else:
                called[name] = roles[node.name]
    for function in graph.graph_def.library.function:
        elsewhere.update(_functions_of(function.node_def))
    return {
        name: allowed
        for name, allowed in called.items()
        if name not in elsewhere and CHECKPOINT_FUNCTION.fullmatch(name)
    }


def _of_checkpoints(node: "NodeDef", function: "FunctionDef", allowed: frozenset[str]) -> bool:
    """Whether an operator of a function is one that it may write or read variables with: it reads from the file that the
    function is given, and no other."""
    if node.op not in allowed:
        return False
    return node.op not in RESTORING or node.input[0] in {argument.name for argument in function.signature.input_arg}


def _functions_of(nodes: "Iterable[NodeDef]") -> Iterator[str]:
    """The functions that `nodes` name."""
    for node in nodes:
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)
