#include "models/runtime/torchscript/allowed_operators.h"

#include <algorithm>
#include <array>
#include <unordered_set>

namespace rivulet::torchscript {
namespace {

// By theme; within each of them sorted.
constexpr std::string_view tensor_operators =
    // Layers.
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm bilinear channel_shuffle "
    "constant_pad_nd conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution "
    "_convolution _convolution_mode dropout embedding embedding_bag feature_alpha_dropout feature_dropout "
    "group_norm gru gru_cell instance_norm layer_norm linear lstm lstm_cell max_pool1d "
    "max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices "
    "native_batch_norm native_dropout native_group_norm native_layer_norm one_hot pad "
    "pixel_shuffle pixel_unshuffle prelu reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell "
    "scaled_dot_product_attention upsample_bicubic2d upsample_bilinear2d upsample_linear1d "
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d "
    // Activations.
    "celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu log_sigmoid log_softmax mish "
    "relu relu6 rrelu selu sigmoid silu softmax softplus softshrink tanh threshold "
    // Arithmetic, one entry at a time.
    "abs absolute acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not "
    "bitwise_or bitwise_xor ceil clamp clamp_max clamp_min clip copysign cos cosh deg2rad digamma div divide "
    "eq erf erfc erfinv exp exp2 expm1 float_power floor floor_divide fmax fmin fmod frac ge greater "
    "greater_equal gt hypot isclose isfinite isinf isnan ldexp le lerp less less_equal lgamma log log10 "
    "log1p "
    "log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt maximum minimum mul "
    "multiply nan_to_num ne neg negative not_equal positive pow rad2deg reciprocal remainder round rsqrt "
    "rsub sgn sign sin sinc sinh sqrt square sub subtract tan true_divide trunc where xlogy "
    // Spectra.
    "angle fft_irfft fft_rfft imag real "
    // Sums, products, order.
    "addbmm addmm addmv addr all allclose amax amin aminmax any argmax argmin argsort baddbmm bmm cdist "
    "chain_matmul cosine_similarity count_nonzero cross cummax cummin cumprod cumsum diff dist dot einsum "
    "equal frobenius_norm inner kthvalue linalg_matmul linalg_norm linalg_vector_norm logcumsumexp logsumexp "
    "matmul max mean median min mm mv nanmean nansum norm outer pairwise_distance prod quantile sort std "
    "std_mean sum tensordot topk trace trapz var var_mean "
    // Losses, which some networks compute within.
    "binary_cross_entropy binary_cross_entropy_with_logits cross_entropy_loss huber_loss kl_div l1_loss "
    "mse_loss nll_loss nll_loss_nd smooth_l1_loss "
    // Shape and choice.
    "affine_grid_generator alias as_strided atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors "
    "broadcast_to bucketize cat chunk clone column_stack concat concatenate contiguous cpu detach diag "
    "diag_embed diagflat diagonal expand expand_as fill fill_diagonal flatten flip fliplr flipud gather "
    "grid_sampler hsplit hstack im2col col2im index index_add index_copy index_fill index_put index_select "
    "masked_fill masked_scatter masked_select meshgrid moveaxis movedim narrow nonzero permute ravel repeat "
    "repeat_interleave reshape reshape_as roll rot90 scatter scatter_add select slice split "
    "split_with_sizes squeeze stack swapaxes swapdims t take take_along_dim tensor_split tile transpose tril "
    "triu type_as unbind unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view "
    "view_as vsplit vstack zero "
    // New tensors, all of them written.
    "arange bernoulli bernoulli_ copy_ eye full full_like hamming_window hann_window linspace new_full "
    "new_ones new_zeros normal_ ones ones_like rand rand_like randint randint_like randn randn_like "
    "scalar_tensor tensor tril_indices triu_indices uniform_ zeros zeros_like "
    // Questions, and numbers in and out.
    "Bool BoolImplicit Float FloatImplicit Int IntImplicit ScalarImplicit device dim element_size "
    "is_complex is_contiguous is_floating_point is_grad_enabled is_nonzero is_same_size item "
    "numel result_type promote_types size stride to is_pinned is_autocast_enabled is_autocast_cpu_enabled";

constexpr std::string_view language_operators =
    // Lists, texts, numbers and dictionaries of TorchScript itself.
    "__and__ __contains__ __derive_index __getitem__ __is__ __isnot__ __lshift__ __not__ __or__ "
    "__range_length __rshift__ __xor__ _set_item append clear copy count degrees dict divmod extend "
    "floordiv format gcd get has_torch_function index insert is_scripting items join keys len list lower "
    "mathremainder percentFormat pop radians remove reverse sorted str startswith endswith strip upper "
    "update "
    "values warn "
    // What autocast, tracing and the fast paths of torch.nn leave behind.
    "_autocast_to_full_precision _autocast_to_reduced_precision _shape_as_tensor _size_if_not_equal "
    "_list_to_tensor _tensor_to_list _softmax _log_softmax _unsafe_view _pack_padded_sequence "
    "_native_multi_head_attention _transformer_encoder_layer_fwd _nested_tensor_from_mask "
    "_nested_tensor_from_mask_left_aligned to_padded_tensor "
    "_upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d find "
    "_pad_packed_sequence _thnn_fused_gru_cell _thnn_fused_lstm_cell __interpolate "
    // On parameters alone: see check_weight_norm in operators.cpp.
    "_weight_norm";

constexpr std::string_view primitives =
    "Constant ConstantChunk CallFunction CallMethod DictConstruct GetAttr If ListConstruct ListUnpack Loop "
    "ModuleContainerIndex NumToTensor RaiseException SetAttr StringIndex TupleConstruct TupleIndex "
    "TupleSlice TupleUnpack Uninitialized abs annotate device dtype is_cpu is_cuda is_mkldnn is_nested "
    "is_quantized is_sparse is_mps is_xpu isinstance layout max min rangelist requires_grad tolist type "
    "unchecked_cast unchecked_unwrap_optional";

using Names = std::unordered_set<std::string_view>;

void add_words(std::string_view text, Names& names) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    if (end > 0) names.insert(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

const Names& aten_names() {
  static const Names names = [] {
    Names all;
    add_words(tensor_operators, all);
    add_words(language_operators, all);
    return all;
  }();
  return names;
}

const Names& prim_names() {
  static const Names names = [] {
    Names all;
    add_words(primitives, all);
    return all;
  }();
  return names;
}

}  // namespace

bool is_allowed_operator(std::string_view name) {
  if (name.starts_with("prim::")) return prim_names().contains(name.substr(6));
  if (!name.starts_with("aten::")) return false;
  name.remove_prefix(6);
  if (aten_names().contains(name)) return true;
  const bool in_place = name.ends_with('_') && !name.ends_with("__");
  return in_place && aten_names().contains(name.substr(0, name.size() - 1));
}

}  // namespace rivulet::torchscript
