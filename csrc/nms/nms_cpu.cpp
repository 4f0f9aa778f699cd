// Greedy NMS: the best box left is kept and strikes out what it overlaps. One kept box is compared
// with a vector of candidates at a time; struck-out ones are packed away once they are a quarter.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "core/parallel.hpp"
#include "nms/nms.hpp"
#include "nms/nms_math.hpp"
#include "nms/nms_simd.hpp"

namespace labelpenet {
namespace {

// Stable, by rising key: least significant byte first, bytes that all keys share skipped.
void sort_by(std::vector<uint64_t>& keys, std::vector<int32_t>& items) {
  constexpr int kBytes = 8;
  const size_t n = keys.size();
  std::array<std::array<uint32_t, 256>, kBytes> starts{};
  for (uint64_t key : keys)
    for (int b = 0; b < kBytes; ++b) ++starts[b][key >> 8 * b & 255];
  std::vector<uint64_t> moved_keys(n);
  std::vector<int32_t> moved_items(n);
  for (int b = 0; b < kBytes; ++b) {
    std::array<uint32_t, 256>& start = starts[b];
    if (n == 0 || start[keys[0] >> 8 * b & 255] == n) continue;
    uint32_t sum = 0;
    for (uint32_t& s : start) sum += std::exchange(s, sum);
    for (size_t i = 0; i < n; ++i) {
      const uint32_t to = start[keys[i] >> 8 * b & 255]++;
      moved_keys[to] = keys[i];
      moved_items[to] = items[i];
    }
    keys.swap(moved_keys);
    items.swap(moved_items);
  }
}

// Rises as the score falls; -0 and 0 are one score.
uint64_t falling(float score) {
  score += 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &score, sizeof bits);
  return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

// The candidates of one label.
class Group {
 public:
  // `order`: the boxes of the label by falling score.
  Group(const NmsArgs& args, const int32_t* order, int64_t count)
      : args_(args), end_(count), rank_(order, order + count), hits_(count) {
    const int64_t padded = count + kNmsPad;
    memory_.resize(5 * padded);
    float* at = memory_.data();
    for (float** field : {&c_.x1, &c_.y1, &c_.x2, &c_.y2, &c_.area}) *field = at, at += padded;
    for (int64_t i = 0; i < count; ++i) {
      const float* b = args.boxes + int64_t{4} * order[i];
      put(i, {b[0], b[1], b[2], b[3]});
    }
    for (int64_t i = count; i < padded; ++i) put(i, {HUGE_VALF, 0, -HUGE_VALF, 0});
  }

  // Sets kept[box] and writes owner[box] of every box of the label.
  void run(uint8_t* kept) {
    const auto suppress = LABELPENET_PICK(kNmsLoops).suppress;
    const float threshold = round_down(args_.iou_threshold);
    int64_t begin = 0, dead = 0;
    while (begin < end_) {
      const int32_t box = rank_[begin];
      kept[box] = 1;
      if (args_.owner) args_.owner[box] = box;
      const int64_t hits = suppress(c_, begin, end_, threshold, hits_.data());
      if (args_.owner)
        for (int64_t h = 0; h < hits; ++h) args_.owner[rank_[hits_[h]]] = box;
      dead += hits;
      ++begin;
      if (dead > (end_ - begin) / 4) pack(begin), begin = 0, dead = 0;
      for (; begin < end_ && c_.x1[begin] == HUGE_VALF; ++begin) --dead;
    }
  }

 private:
  void put(int64_t i, const Box& b) {
    c_.x1[i] = b.x1, c_.y1[i] = b.y1, c_.x2[i] = b.x2, c_.y2[i] = b.y2;
    c_.area[i] = b.x1 == HUGE_VALF ? 0 : box_area(b);
  }

  // Moves the live candidates from `begin` on to the front.
  void pack(int64_t begin) {
    int64_t to = 0;
    for (int64_t i = begin; i < end_; ++i) {
      if (c_.x1[i] == HUGE_VALF) continue;
      for (float* field : {c_.x1, c_.y1, c_.x2, c_.y2, c_.area}) field[to] = field[i];
      rank_[to++] = rank_[i];
    }
    end_ = to;
    for (int64_t i = end_; i < end_ + kNmsPad; ++i) put(i, {HUGE_VALF, 0, -HUGE_VALF, 0});
  }

  const NmsArgs& args_;
  int64_t end_;
  std::vector<int32_t> rank_;  // box index of each candidate
  std::vector<int32_t> hits_;
  std::vector<float> memory_;
  NmsCandidates c_{};
};

bool valid(const NmsArgs& a) {
  // x - x is 0 for finite x, else NaN
  bool ok = true;
  for (int64_t i = 0; i < 4 * a.count; ++i) ok &= a.boxes[i] - a.boxes[i] == 0;
  for (int64_t i = 0; i < a.count; ++i) ok &= a.scores[i] == a.scores[i];
  return ok;
}

}  // namespace

void nms_cpu(const NmsArgs& a, int threads) {
  a.status[0] = 0;
  a.status[1] = !valid(a);
  if (a.status[1]) return;
  std::vector<uint64_t> keys(a.count);
  std::vector<int32_t> order(a.count);
  for (int64_t i = 0; i < a.count; ++i) {
    keys[i] = falling(a.scores[i]);
    order[i] = static_cast<int32_t>(i);
  }
  sort_by(keys, order);
  std::vector<uint8_t> kept(a.count);
  if (a.labels) {
    std::vector<int32_t> grouped = order;
    for (int64_t i = 0; i < a.count; ++i) keys[i] = static_cast<uint64_t>(a.labels[order[i]]);
    sort_by(keys, grouped);
    std::vector<int64_t> starts;
    for (int64_t i = 0; i < a.count; ++i)
      if (i == 0 || keys[i] != keys[i - 1]) starts.push_back(i);
    const int64_t groups = static_cast<int64_t>(starts.size());
    starts.push_back(a.count);
    if (a.count < 4096) threads = 1;  // starting threads would cost more than it saves
    parallel_for(groups, 1, threads, [&](int64_t begin, int64_t end, int) {
      for (int64_t g = begin; g < end; ++g)
        Group(a, grouped.data() + starts[g], starts[g + 1] - starts[g]).run(kept.data());
    });
  } else {
    Group(a, order.data(), a.count).run(kept.data());
  }
  for (int32_t box : order)
    if (kept[box]) a.keep[a.status[0]++] = box;
}

}  // namespace labelpenet
