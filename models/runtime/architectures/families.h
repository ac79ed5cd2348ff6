#pragma once

#include "models/package/architecture.h"
#include "models/runtime/architectures/network.h"

// The built-in networks. Each takes an architecture of its kind in which find_model_fault and
// find_shape_fault found nothing, and returns too_large above parameters_max. Shapes are those of one
// sample; every network reads [n, …] inputs, flat or shaped, and answers [n, outputs]. Layers are part
// of every release by name and order, and never change.
namespace rivulet {

/// Dense layers with ReLU between them; without `hidden`, softmax regression.
///   [input] -> fc1 -> ReLU -> … -> fcN -> [outputs]
/// Parameters: the sum of size_i * (size_{i-1} + 1). Input 784, hidden 200, 200, outputs 10: 199,210,
/// the "2NN" of McMahan et al. 2017 (arXiv:1602.05629).
Result<Network> make_mlp(const Architecture& architecture);

/// Encoder to a code, the last of `hidden`, and the encoder's sizes back; ReLU between, but not on the
/// code, which is linear so that no unit of it can die.
///   [input] -> encoder1 -> ReLU -> … -> encoderN -> code -> decoder1 -> ReLU -> … -> decoderN -> [input]
/// Parameters: as those of an mlp with hidden a, …, code, …, a. Input 64, hidden 32, 8: 4,744.
/// Source: Hinton and Salakhutdinov 2006, Science 313:504, without the pre-training; what it rebuilds
/// badly is an anomaly (Sakurada and Yairi 2014, MLSDA).
Result<Network> make_autoencoder(const Architecture& architecture);

/// The generic convolutional network on images.
///   [c, h, w] -> { convI, kernel x kernel, same size -> ReLU -> max-pool: h, w / pool, rounded down }
///   -> flat -> { fcI -> ReLU } for each of hidden -> fcN -> [outputs]
/// Parameters: c_i * (c_{i-1} * kernel^2 + 1) a convolution, then as an mlp from c_last * h' * w'.
/// Input [1, 8, 8], channels 32, 64, kernel 3, pool 2, hidden 128, outputs 10: 53,002.
/// Source: LeCun et al. 1998, Proc. IEEE 86:2278, with ReLU and max-pooling.
Result<Network> make_cnn(const Architecture& architecture);

/// make_cnn with channels 32, 64, kernel 5, pool 2, hidden 512 on [1, 28, 28] or [784].
/// Parameters: 1,663,370 for 10 outputs, as section 3 of McMahan et al. 2017 (arXiv:1602.05629) says.
Result<Network> make_mcmahan_cnn(const Architecture& architecture);

/// Convolutions over time on windows of several sensors, averaged over what is left of the time.
///   [c, length] -> { convI, kernel, same length -> ReLU -> max-pool: length / pool, rounded down }
///   -> mean over time [c_last] -> { fcI -> ReLU } for each of hidden -> fcN -> [outputs]
/// Parameters: c_i * (c_{i-1} * kernel + 1) a convolution, then as an mlp from c_last; the length has no
/// part in it. Input [6, 128], channels 64, 64, kernel 5, outputs 6: 22,918.
/// Source: the FCN of Wang, Yan and Oates 2017 (arXiv:1611.06455), with pooling in place of its
/// batch normalization.
Result<Network> make_cnn1d(const Architecture& architecture);

/// One layer of gated recurrent units over the window; the last state decides.
///   [c, length] -> gru over length steps of c numbers -> state [hidden] -> fc -> [outputs]
/// Parameters: 3 * hidden * (c + hidden + 2) + outputs * (hidden + 1). Input [6, 128], hidden 64,
/// outputs 6: 14,214.
/// Source: Cho et al. 2014 (arXiv:1406.1078), in PyTorch's form: the reset gate multiplies the
/// product with the state, bias included.
Result<Network> make_gru(const Architecture& architecture);

/// ResNet-18 for small images: no max-pooling, a first convolution of 3x3 with stride 1; with group in
/// place of batch normalization, so that nothing depends on the batch or on another device's data.
///   [c, h, w] -> conv -> norm -> ReLU -> 4 stages of 2 blocks -> mean over h, w -> fc -> [outputs]
///   block: conv1 3x3 -> norm1 -> ReLU -> conv2 3x3 -> norm2 -> + input -> ReLU
/// Stage s has 64 * width * 2^(s-1) channels; its first block halves h and w (rounded up) for s > 1, and
/// there its input goes through a 1x1 convolution and a norm. Convolutions have no bias.
/// Parameters: 11,173,962 for [3, 32, 32] and 10 outputs at width 1, 176,402 at width 1/8: about
/// 11.17 million * width^2.
/// Source: He et al. 2016 (arXiv:1512.03385); group normalization: Wu and He 2018 (arXiv:1803.08494),
/// for federated learning Hsieh et al. 2020 (arXiv:1910.00189), with 2 groups as in Reddi et al. 2021
/// (arXiv:2003.00295).
Result<Network> make_resnet18(const Architecture& architecture);

/// MobileNetV2, of inverted residuals with linear bottlenecks; batch norm behind every convolution, none of
/// which has a bias. Images of another height or width than `resolution` are brought to it first, bilinearly,
/// unless it is 0.
///   [c, h, w] -> conv 3x3, stride 2 -> norm -> ReLU6 -> 17 blocks -> last, 1x1 -> norm -> ReLU6
///   -> mean over h, w [c_last] -> fc -> [outputs]
///   block: expand 1x1 -> norm -> ReLU6 -> depthwise 3x3 -> norm -> ReLU6 -> project 1x1 -> norm
///   + input, where the shape stays the same; the first block does not expand, the others sixfold
/// Strides and channels are those of the paper's Table 2: 32, 16, 24, 32, 64, 96, 160, 320, each times
/// `width` and then mobilenet_channels(); the last 1280 grow with a width above 1 and do not shrink. Five
/// strides of 2 leave h / 32, rounded up: of 64x64 there are 2x2. No dropout, which only long training on one
/// machine needs. Parameters: 3,504,872 for 3 channels and 1000 outputs at width 1, 1,968,680 at width 0.5,
/// 700,490 with 10 outputs; the running statistics are 34,112 and 18,544 numbers more. Source: Sandler et al.
/// 2018 (arXiv:1801.04381).
Result<Network> make_mobilenet_v2(const Architecture& architecture);

/// The multiple of 8 nearest to the wanted number of channels (of two the greater), but at least 8, and 8
/// more where it would be less than 90 % of the wanted: as the paper's authors round.
std::int64_t mobilenet_channels(double wanted);

}  // namespace rivulet
