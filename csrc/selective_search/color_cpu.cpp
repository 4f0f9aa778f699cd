// RGB to the color spaces of selective search (table 1 of the paper), all in integers.
#include <array>
#include <cmath>

#include "selective_search/stages.hpp"

namespace labelpenet {
namespace {

// Fixed point of the Lab conversion: linear light and X, Y, Z relative to white in [0, kOne].
constexpr int kBits = 14;
constexpr int kOne = (1 << kBits) - 1;

struct LabTables {
  std::array<int32_t, 256> linear;     // sRGB to linear light (IEC 61966-2-1)
  std::array<int32_t, kOne + 1> root;  // f(t) of CIE 1976, in 2^16ths
  LabTables() {
    for (int i = 0; i < 256; ++i) {
      const double v = i / 255.0;
      const double light = v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
      linear[i] = static_cast<int32_t>(std::lround(light * kOne));
    }
    for (int i = 0; i <= kOne; ++i) {
      const double t = static_cast<double>(i) / kOne;
      const double f = t > 216.0 / 24389.0 ? std::cbrt(t) : (24389.0 / 27.0 * t + 16.0) / 116.0;
      root[i] = static_cast<int32_t>(std::lround(f * 65536.0));
    }
  }
};

// sRGB primaries to XYZ / white D65; rows sum to 2^14, so that grey has a = b = 128.
constexpr int kXyz[3][3] = {{7110, 6164, 3110}, {3484, 11717, 1183}, {291, 1794, 14299}};

inline uint8_t byte(int v) { return static_cast<uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v); }

inline void to_lab(const LabTables& tables, int r, int g, int b, uint8_t* lab) {
  const int32_t light[3] = {tables.linear[r], tables.linear[g], tables.linear[b]};
  int32_t f[3];
  for (int i = 0; i < 3; ++i)
    f[i] =
        tables
            .root[(kXyz[i][0] * light[0] + kXyz[i][1] * light[1] + kXyz[i][2] * light[2]) >> kBits];
  // L in [0, 100] is stretched to a byte (2.55 = 653 / 256); a and b are moved by 128.
  lab[0] = byte((653 * (((116 * f[1]) - (16 << 16)) >> 8) + (1 << 15)) >> 16);
  lab[1] = byte((500 * (f[0] - f[1]) + (128 << 16) + (1 << 15)) >> 16);
  lab[2] = byte((200 * (f[1] - f[2]) + (128 << 16) + (1 << 15)) >> 16);
}

// The color circle is [0, 256); grey has hue 0.
inline int hue(int r, int g, int b, int top, int spread) {
  if (spread == 0) return 0;
  int sixth = top == r ? g - b : top == g ? b - r + 2 * spread : r - g + 4 * spread;
  if (sixth < 0) sixth += 6 * spread;
  return 256 * sixth / (6 * spread);
}

inline int intensity(int r, int g, int b) { return (77 * r + 150 * g + 29 * b + 128) >> 8; }

inline void to_hsv(int r, int g, int b, uint8_t* hsv) {
  const int top = r > g ? (r > b ? r : b) : (g > b ? g : b);
  const int low = r < g ? (r < b ? r : b) : (g < b ? g : b);
  hsv[0] = static_cast<uint8_t>(hue(r, g, b, top, top - low));
  hsv[1] = static_cast<uint8_t>(top ? 255 * (top - low) / top : 0);
  hsv[2] = static_cast<uint8_t>(top);
}

inline void to_rgi(int r, int g, int b, uint8_t* rgi) {
  const int sum = r + g + b;  // black has the chromaticity of grey
  rgi[0] = static_cast<uint8_t>(sum ? 255 * r / sum : 85);
  rgi[1] = static_cast<uint8_t>(sum ? 255 * g / sum : 85);
  rgi[2] = static_cast<uint8_t>(intensity(r, g, b));
}

template <int kChannels, class Convert>
void convert_each(const uint8_t* image, Planes& planes, const Convert& convert) {
  const int64_t n = planes.pixels();
  uint8_t* out = planes.data.data();
  for (int64_t i = 0; i < n; ++i) {
    uint8_t value[kChannels];
    convert(image[3 * i], image[3 * i + 1], image[3 * i + 2], value);
    for (int c = 0; c < kChannels; ++c) out[c * n + i] = value[c];
  }
}

}  // namespace

int color_channels(ColorSpace space) {
  return space == ColorSpace::kHue || space == ColorSpace::kIntensity ? 1 : 3;
}

Planes convert_color(const uint8_t* image, int height, int width, ColorSpace space) {
  static const LabTables tables;
  Planes planes{color_channels(space), height, width, {}};
  planes.data.resize(planes.channels * planes.pixels());
  switch (space) {
    case ColorSpace::kHsv:
      convert_each<3>(image, planes, to_hsv);
      break;
    case ColorSpace::kLab:
      convert_each<3>(image, planes,
                      [](int r, int g, int b, uint8_t* out) { to_lab(tables, r, g, b, out); });
      break;
    case ColorSpace::kRgi:
      convert_each<3>(image, planes, to_rgi);
      break;
    case ColorSpace::kHue:
      convert_each<1>(image, planes, [](int r, int g, int b, uint8_t* out) {
        uint8_t hsv[3];
        to_hsv(r, g, b, hsv);
        out[0] = hsv[0];
      });
      break;
    case ColorSpace::kIntensity:
      convert_each<1>(image, planes, [](int r, int g, int b, uint8_t* out) {
        out[0] = static_cast<uint8_t>(intensity(r, g, b));
      });
      break;
  }
  return planes;
}

}  // namespace labelpenet
