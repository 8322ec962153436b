"""A SavedModel is a program: before it is loaded, its operators are looked at. Those that layers
are made of compute; others read and write files, call Python, or reach other machines, and no model
needs them.

An operator passes if TensorFlow declares it free of side effects, its name is not one of those that
reach outside all the same, and none of its texts can be the name of a file or a machine; or if it
is one of the few that layers keep their state with.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from graft.zoo.errors import ArtifactError
from graft.zoo.files.guards import one_line_if_damaged

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

__all__ = ["check_savedmodel"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


REACHING_OPERATORS = re.compile(
    r"File|Filename|PyFunc|Dataset|Iterator|Debug|Summary|Reader|Queue|Barrier|Rpc|Remote"
    r"|Collective|Nccl|Tpu|TPU|^Xla|Immutable|Abort|Save|Restore|Snapshot|Infeed|Outfeed"
    r"|Prelinearize|Session|Mlir|Assert(?:Next|Prev)|Test|^_|Foo"
)
"""Operators that are declared free of side effects, and reach files, other code or other machines
all the same.
"""

STATEFUL_OPERATORS = _words("""
    VarHandleOp ReadVariableOp AssignVariableOp AssignAddVariableOp AssignSubVariableOp
    VariableShape VarIsInitializedOp ResourceGather ResourceGatherNd DestroyResourceOp
    DisableCopyOnRead Variable VariableV2 StatefulPartitionedCall PartitionedCall If While Case
    Assert CheckNumerics Empty HashTableV2 MutableHashTableV2 LookupTableFindV2
    LookupTableSizeV2 LookupTableImportV2 LookupTableInsertV2 LookupTableExportV2
    InitializeTableV2 AnonymousHashTable TensorArrayV3 TensorArrayReadV3 TensorArrayWriteV3
    TensorArrayGatherV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArrayCloseV3
    TensorArrayConcatV3 TensorArraySplitV3 RandomUniform RandomStandardNormal RandomUniformInt
    RandomShuffle TruncatedNormal RngReadAndSkip RngSkip StatefulUniform
    StatefulStandardNormalV2 StatefulUniformInt StatefulTruncatedNormal StatelessRandomGetAlg
    GuaranteeConst RaggedTensorToVariant NoOp WordpieceTokenizeWithOffsets
""")
"""Operators with state that layers are made of."""

TEXT_ARGUMENTS = _words("""
    padding data_format src_format dst_format dimension_numbers align mode method noise
    round_mode input_quant_mode rnn_mode input_mode fill_mode interpolation kernel_type fill
    direction equation combiner set_operation loss_type split_type split_types unit errors
    bad_indices_policy row_partition_types input_order compression_type dct_method density_unit
    format message metadata xmp_metadata container shared_name var_name frame_name
    tensor_array_name encoding input_encoding output_encoding normalization_form pattern rewrite
    delim_regex_pattern keep_delim_regex_pattern separator string_separator sep delimiter
    template placeholder left_pad right_pad field_delim na_value names debug_name sparse_keys
    doc dense_keys ragged_keys context_sparse_keys context_dense_keys context_ragged_keys data
    feature_list_sparse_keys feature_list_dense_keys feature_list_ragged_keys json_examples
    records feature_list_dense_missing_assumed_empty serialized serialized_sparse string_tensor
    strings input inputs input_bytes input_values input_tokens input_boise_tags input_span_type
    bytes input_config token_word contents handle table_handle
""")
"""Attributes and inputs of operators that take text and do no more with it than compute. An
operator with another one is refused: it could name a file or a machine.
"""

CHECKPOINT_FUNCTIONS = {
    "save": (
        re.compile(r"__inference__traced_save_\d+"),
        {"SaveV2", "MergeV2Checkpoints", "ShardedFilename"},
    ),
    "restore": (re.compile(r"__inference__traced_restore_\d+"), {"RestoreV2"}),
}
"""What TensorFlow calls the two functions of a SavedModel that write and read its variables, and
the operators that only they may have.
"""

SECOND_GRAPHS = ("saved_model.cpb", "saved_model.pbtxt")
"""Other files that hold a graph: which one is loaded is for TensorFlow to choose."""

TRUST_HINT = "if you know where it comes from, --trust opens it all the same"


def check_savedmodel(folder: Path) -> None:
    """Refuse a SavedModel that could do more than compute; nothing of it is loaded.

    Raises:
        ArtifactError: it is damaged; it holds such an operator, a link that leads out of it, or an
            asset outside; names it.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    folder = Path(folder)
    for name in SECOND_GRAPHS:
        if (folder / name).exists():
            raise ArtifactError(
                f"'{folder}' holds a second graph, '{name}', beside saved_model.pb: refused; "
                f"{TRUST_HINT}"
            )
    for file in folder.rglob("*"):
        if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
            raise ArtifactError(
                f"'{file}' is a link that leads out of the SavedModel: refused; {TRUST_HINT}"
            )
    saved = saved_model_pb2.SavedModel()
    with one_line_if_damaged(folder / "saved_model.pb", "export again"):
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        for asset in graph.asset_file_def:
            if Path(asset.filename).name != asset.filename:
                raise ArtifactError(
                    f"'{folder}' names an asset outside of itself ('{asset.filename}'): refused"
                )
        refused = _refused_operators(graph, alone=len(saved.meta_graphs) == 1)
        if refused:
            listed = ", ".join(f"{name} ({count})" for name, count in sorted(refused.items())[:5])
            raise ArtifactError(
                f"'{folder}' holds operators that can do more than compute, such as read or write "
                f"files or run other code: {listed}: refused; {TRUST_HINT}"
            )


def _refused_operators(graph: "MetaGraphDef", alone: bool) -> Counter:
    """The operators of a graph and of its functions that may not be there, with how often they are;
    `alone` if it is the only graph of its file.
    """
    own_operators = _checkpoint_functions(graph) if alone else {}
    found = Counter(node.op for node in graph.graph_def.node)
    for function in graph.graph_def.library.function:
        passed = own_operators.get(function.signature.name, ())
        found += Counter(node.op for node in function.node_def if node.op not in passed)
    own = {function.signature.name for function in graph.graph_def.library.function}
    return Counter(
        {
            name: count
            for name, count in found.items()
            if name not in own and not _only_computes(name)
        }
    )


def _only_computes(name: str) -> bool:
    from tensorflow.core.framework.types_pb2 import DT_STRING
    from tensorflow.python.framework import op_def_registry

    if name in STATEFUL_OPERATORS:
        return True
    known = op_def_registry.get(name)
    if known is None or known.is_stateful or REACHING_OPERATORS.search(name) is not None:
        return False
    texts = [
        attribute.name for attribute in known.attr if attribute.type in ("string", "list(string)")
    ]
    texts += [given.name for given in known.input_arg if given.type == DT_STRING]
    return TEXT_ARGUMENTS.issuperset(texts)


def _checkpoint_functions(graph: "MetaGraphDef") -> dict[str, set[str]]:
    """The functions that write and read the variables, and what each may have for it: called by the
    graph's saver, and by nothing else.

    There are none in a graph without objects, the older form: opening it runs all that its saver
    names.
    """
    if not graph.HasField("object_graph_def"):
        return {}
    savers = {
        graph.saver_def.save_tensor_name.split(":")[0]: "save",
        graph.saver_def.restore_op_name.split(":")[0]: "restore",
    }
    if len(savers) < 2:
        return {}
    called: dict[str, str] = {}
    elsewhere = set(graph.object_graph_def.concrete_functions)
    for node in graph.object_graph_def.nodes:
        elsewhere.update(
            (*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name)
        )
    for node in graph.graph_def.node:
        if node.name in savers:
            called.update(dict.fromkeys(_functions_named_by([node]), savers[node.name]))
        else:
            elsewhere.update(_functions_named_by([node]))
    for function in graph.graph_def.library.function:
        elsewhere.update(_functions_named_by(function.node_def))
    for gradient in graph.graph_def.library.gradient:
        elsewhere.update((gradient.function_name, gradient.gradient_func))
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    found = {}
    for name in called.keys() & functions.keys() - elsewhere:
        named, operators = CHECKPOINT_FUNCTIONS[called[name]]
        if named.fullmatch(name) and _keeps_its_place(functions[name]):
            found[name] = operators
    return found


def _keeps_its_place(function: "FunctionDef") -> bool:
    """Whether a function of a saver is told which file it reads or writes, and can be put in no
    other function's place.
    """
    from tensorflow.core.framework.types_pb2 import DT_STRING

    first = {
        argument.name for argument in function.signature.input_arg if argument.type == DT_STRING
    }
    nodes = {node.name: node for node in function.node_def}

    def told(name: str) -> bool:
        for _ in nodes:
            name = name.split(":")[0]
            if name in first or name not in nodes:
                break
            if nodes[name].op != "Identity":
                return False
            name = nodes[name].input[0]
        return name in first

    restores = [node for node in function.node_def if node.op == "RestoreV2"]
    return (
        bool(first)
        and "api_implements" not in function.attr
        and all(told(node.input[0]) for node in restores)
    )


def _functions_named_by(nodes: "Iterable[NodeDef]") -> Iterator[str]:
    """The functions that `nodes` name."""
    for node in nodes:
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)
