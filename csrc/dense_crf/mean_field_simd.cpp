#include "dense_crf/vectors.hpp"

namespace labelpenet::LABELPENET_ISA {
namespace {

// exp(x) to about 1e-7 relative: 2^n times a polynomial on |f| <= ln(2) / 2 (Taylor to degree 6,
// remainder 1.2e-7). 0 below -60 (8.8e-27), so that no later product with a weight is subnormal,
// which some processors compute slowly; never above exp(60).
LABELPENET_INLINE Native exponential(const Native& any) {
  const Native low = Native{} - 60.0f, high = Native{} + 60.0f;
  const Native round = Native{} + 12582912.0f;
  Native x = any < low ? low : any;
  x = x > high ? high : x;
  const Native n = (x * 1.44269504f + round) - round;
  const Native f = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  Native p = f * (1.0f / 720) + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  const NativeInt power = (__builtin_convertvector(n, NativeInt) + 127) << 23;
  return any < low ? Native{} : p * (Native)power;
}

void sigmoid(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += kNative) {
    const Native odds = exponential(load<Native>(x + i));
    store(x + i, odds / (1.0f + odds));
  }
}

// The largest lane, or the sum of the lanes, in every lane.
LABELPENET_INLINE Float8 spread_max(const Float8& x) {
  const auto larger = [](const Float8& a, const Float8& b) { return a < b ? b : a; };
  Float8 v = larger(x, shuffle<4, 5, 6, 7, 0, 1, 2, 3>(x, x));
  v = larger(v, shuffle<2, 3, 0, 1, 6, 7, 4, 5>(v, v));
  return larger(v, shuffle<1, 0, 3, 2, 5, 4, 7, 6>(v, v));
}

LABELPENET_INLINE Float8 spread_sum(const Float8& x) {
  Float8 v = x + shuffle<4, 5, 6, 7, 0, 1, 2, 3>(x, x);
  v += shuffle<2, 3, 0, 1, 6, 7, 4, 5>(v, v);
  return v + shuffle<1, 0, 3, 2, 5, 4, 7, 6>(v, v);
}

void softmax(float* x, int64_t rows, int channels) {
  for (float* block = x; block < x + rows * channels; block += kLanes * channels) {
    float* const end = block + kLanes * channels;
    for (float* row = block; row < end; row += channels) {
      Float8 top = load<Float8>(row);
      for (int c = 8; c < channels; c += 8) {
        const Float8 score = load<Float8>(row + c);
        top = top < score ? score : top;
      }
      top = spread_max(top);
      for (int c = 0; c < channels; c += 8) store(row + c, load<Float8>(row + c) - top);
    }
    for (float* at = block; at < end; at += kNative) store(at, exponential(load<Native>(at)));
    for (float* row = block; row < end; row += channels) {
      Float8 sum = load<Float8>(row);
      for (int c = 8; c < channels; c += 8) sum += load<Float8>(row + c);
      const Float8 inverse = 1.0f / spread_sum(sum);
      for (int c = 0; c < channels; c += 8) store(row + c, load<Float8>(row + c) * inverse);
    }
  }
}

// ---- planes [channel, pixel] <-> rows [pixel, channel]
// ---------------------------------------------
constexpr int kPairs[] = {0, 1, 4, 5};

LABELPENET_INLINE void transpose(Float8 (&m)[8]) {
  for (int i = 0; i < 4; ++i) {
    const Float8 a = m[i], b = m[i + 4];
    m[i] = shuffle<0, 1, 2, 3, 8, 9, 10, 11>(a, b);
    m[i + 4] = shuffle<4, 5, 6, 7, 12, 13, 14, 15>(a, b);
  }
  for (const int i : kPairs) {
    const Float8 a = m[i], b = m[i + 2];
    m[i] = shuffle<0, 1, 8, 9, 4, 5, 12, 13>(a, b);
    m[i + 2] = shuffle<2, 3, 10, 11, 6, 7, 14, 15>(a, b);
  }
  for (int i = 0; i < 8; i += 2) {
    const Float8 a = m[i], b = m[i + 1];
    m[i] = shuffle<0, 8, 2, 10, 4, 12, 6, 14>(a, b);
    m[i + 1] = shuffle<1, 9, 3, 11, 5, 13, 7, 15>(a, b);
  }
}

// 8 pixels of one plane, 0 behind the last of `left` pixels.
LABELPENET_INLINE Float8 load_some(const float* p, int64_t left) {
  if (left >= 8) return load<Float8>(p);
  Float8 v = {};
  for (int i = 0; i < left; ++i) v[i] = p[i];
  return v;
}

LABELPENET_INLINE void store_some(float* p, const Float8& v, int64_t left) {
  if (left >= 8) return store(p, v);
  for (int i = 0; i < left; ++i) p[i] = v[i];
}

void to_rows(const float* plus, const float* minus, int64_t stride, int count, int64_t pixels,
             float* rows, int channels, int64_t begin, int64_t end) {
  for (int64_t p = begin * kLanes; p < end * kLanes; p += 8) {
    const auto score = [&](int c) {
      const Float8 from = plus ? load_some(plus + c * stride + p, pixels - p) : Float8{};
      return from - load_some(minus + c * stride + p, pixels - p);
    };
    if (channels == 1) {
      store(rows + p, score(0));
      continue;
    }
    for (int c = 0; c < channels; c += 8) {
      Float8 m[8];
      for (int i = 0; i < 8; ++i) m[i] = c + i < count ? score(c + i) : Float8{} + kNoLabel;
      transpose(m);
      for (int i = 0; i < 8; ++i) store(rows + (p + i) * channels + c, m[i]);
    }
  }
}

void to_planes(const float* rows, int channels, int count, int64_t stride, int64_t pixels,
               float* planes, float* rest, int64_t begin, int64_t end) {
  for (int64_t p = begin * kLanes; p < end * kLanes && p < pixels; p += 8) {
    for (int c = 0; c < count; c += 8) {
      Float8 m[8];
      if (channels == 1) {
        m[0] = load<Float8>(rows + p);
      } else {
        for (int i = 0; i < 8; ++i) m[i] = load<Float8>(rows + (p + i) * channels + c);
        transpose(m);
      }
      for (int i = 0; i < 8 && c + i < count; ++i) {
        store_some(planes + (c + i) * stride + p, m[i], pixels - p);
        if (rest) store_some(rest + (c + i) * stride + p, 1.0f - m[i], pixels - p);
      }
    }
  }
}

}  // namespace

extern const MeanFieldLoops kMeanFieldLoops;
const MeanFieldLoops kMeanFieldLoops = {to_rows, to_planes, sigmoid, softmax};

}  // namespace labelpenet::LABELPENET_ISA
