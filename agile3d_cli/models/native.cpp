// What torch's general steps are slowest at when an imported EG3D generator is rendered, all of it in the cache:
// rays, one at a time from the first sample to the colour, and what follows an enlarging convolution.
//
// The twins say what the steps mean: `march_rays` in ray_field.py, `smooth` in folded.py. Plain C interface, no
// library but the language's own. Rays are written for the widths that all published decoders have: 32 features, 64
// hidden, 32 colours.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

namespace {

constexpr int C = 32, H = 64, F = 32, MOST = 256;  // MOST samples of a pass
constexpr int64_t TOGETHER = 64;  // rays that a thread takes at a time
constexpr float SMALLEST = 1e-5f, FLOOR = 0.01f;

typedef float Lane __attribute__((vector_size(64)));
typedef int32_t Whole __attribute__((vector_size(64)));
constexpr int W = 16;

inline Lane load(const float* p) {
    Lane x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

inline void store(float* p, Lane x) { std::memcpy(p, &x, sizeof x); }

inline Lane all(float x) { return Lane{} + x; }

inline Lane lower(Lane a, Lane b) { return a < b ? a : b; }

inline Lane higher(Lane a, Lane b) { return a > b ? a : b; }

// Torch's exp leaves 1 a little early: exp(-t) is 1 up to t = 0.453 units of 2^-24, not 0.5. Where rays meet next to
// nothing, whole depths hang on that.
constexpr float EARLY = 0.047f / (1 << 24);

// exp, within 2 units in the last place, for what lies in [-87, 88]; held there.
inline Lane exp_of(Lane x, float early = 0.0f) {
    constexpr float ROUND = 12582912.0f;  // added, it leaves a whole number in the last bits
    x = lower(higher(x, all(-87.0f)), all(88.0f));
    const Lane turns = x * 1.44269504088896341f + ROUND, k = turns - ROUND;
    const Lane r = x - k * 0.693359375f + k * 2.12194440e-4f;
    Lane y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + (r - early) + 1.0f;
    Whole bits, power;
    std::memcpy(&power, &turns, sizeof power);
    std::memcpy(&bits, &y, sizeof bits);
    bits += power << 23;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

// log(1 + exp(x)), relative error some 1e-7: what is left beside x is a polynomial of exp(-|x|), good to 1e-8.
inline Lane softplus(Lane x) {
    const Lane zero{}, e = exp_of(lower(x, -x));
    Lane y = all(5.1261021234e-03f);
    y = y * e - 2.9074064607e-02f;
    y = y * e + 7.7516086624e-02f;
    y = y * e - 1.3602247612e-01f;
    y = y * e + 1.9076880731e-01f;
    y = y * e - 2.4835398987e-01f;
    y = y * e + 3.3318121707e-01f;
    y = y * e - 4.9999444976e-01f;
    y = y * e + 9.9999996593e-01f;
    return higher(x, zero) + y * e;
}

struct Field {
    const float* table;
    int side, planes;
    const int* pairs;
    float scale;
    const float *hidden, *hidden_bias, *density, *colour, *output_bias;
};

// Where one plane is read, and by which shares.
struct Place {
    const float* texel;
    float shares[4];
};

// At (u, v) in [-1, 1].
inline Place place_of(const Field& field, int plane, float u, float v) {
    const int row = field.side + 2;
    const float half = 0.5f * field.side, last = field.side + 1.0f;
    const float x = std::min(std::max((u + 1.0f) * half + 0.5f, 0.0f), last);
    const float y = std::min(std::max((v + 1.0f) * half + 0.5f, 0.0f), last);
    const int i = std::min(static_cast<int>(x), field.side), j = std::min(static_cast<int>(y), field.side);
    const float a = x - i, b = y - j, both = a * b;
    const int64_t texel = static_cast<int64_t>(plane) * row * row + static_cast<int64_t>(j) * row + i;
    return {field.table + texel * C, {1.0f - a - b + both, a - both, b - both, both}};
}

// Hidden layer (samples, H) and raw density of the samples at `depths` along a ray; both have room for 4 more.
void ask(const Field& field, const float* origin, const float* direction, const float* depths, int samples, float* hidden,
         float* raw) {
    const int64_t row = static_cast<int64_t>(field.side + 2) * C, steps[4] = {0, C, row, row + C};
    Place places[MOST + 4][3];
    for (int s = 0; s < samples + 3; ++s) {
        const float depth = depths[std::min(s, samples - 1)];
        float point[3];
        for (int axis = 0; axis < 3; ++axis) point[axis] = (origin[axis] + direction[axis] * depth) * field.scale;
        for (int k = 0; k < field.planes; ++k) {
            places[s][k] = place_of(field, k, point[field.pairs[2 * k]], point[field.pairs[2 * k + 1]]);
            for (const int64_t step : steps) {
                __builtin_prefetch(places[s][k].texel + step);
                __builtin_prefetch(places[s][k].texel + step + W);
            }
        }
    }
    for (int s = 0; s < samples; s += 4) {
        alignas(64) float features[4][C];
        for (int t = 0; t < 4; ++t) {
            Lane low{}, high{};
            for (int k = 0; k < field.planes; ++k) {
                const Place& place = places[s + t][k];
                for (int corner = 0; corner < 4; ++corner) {
                    low += load(place.texel + steps[corner]) * place.shares[corner];
                    high += load(place.texel + steps[corner] + W) * place.shares[corner];
                }
            }
            store(features[t], low);
            store(features[t] + W, high);
        }
        Lane sums[4][4];
        for (int t = 0; t < 4; ++t)
            for (int k = 0; k < 4; ++k) sums[t][k] = load(field.hidden_bias + k * W);
        for (int c = 0; c < C; ++c) {
            const float* weights = field.hidden + c * H;
            const Lane w0 = load(weights), w1 = load(weights + W), w2 = load(weights + 2 * W), w3 = load(weights + 3 * W);
            for (int t = 0; t < 4; ++t) {
                const float x = features[t][c];
                sums[t][0] += w0 * x;
                sums[t][1] += w1 * x;
                sums[t][2] += w2 * x;
                sums[t][3] += w3 * x;
            }
        }
        for (int t = 0; t < 4; ++t) {
            Lane total{};
            for (int k = 0; k < 4; ++k) {
                const Lane soft = softplus(sums[t][k]);
                store(hidden + (s + t) * H + k * W, soft);
                total += soft * load(field.density + k * W);
            }
            float sum = 0;
            for (int k = 0; k < W; ++k) sum += total[k];
            raw[s + t] = sum + field.output_bias[0];
        }
    }
}

// Weights of the intervals between samples in order, and the light that they take.
void march(const float* raw, const float* depths, int samples, float* weights) {
    alignas(64) float left[2 * MOST + W];
    for (int s = 0; s < samples - 1; s += W) {
        alignas(64) float mean[W], step[W];
        for (int k = 0; k < W; ++k) {
            const int i = std::min(s + k, samples - 2);
            mean[k] = (raw[i + 1] + raw[i]) / 2 - 1;
            step[k] = depths[i + 1] - depths[i];
        }
        store(left + s, exp_of(-softplus(load(mean)) * load(step), EARLY));
    }
    double before = 1;
    for (int s = 0; s < samples - 1; ++s) {
        weights[s] = (1 - left[s]) * static_cast<float>(before);
        before *= left[s] + 1e-10f;
    }
}

// New depths where the first pass found weight.
void draw(const float* depths, const float* weights, int samples, const float* draws, int count, float* found) {
    const int intervals = samples - 1, bins = intervals - 2;
    float inner[MOST], cdf[MOST];
    double total = 0;
    for (int i = 0; i < bins; ++i) {
        const float a = weights[i], b = weights[i + 1], c = weights[i + 2];
        inner[i] = (std::max(a, b) + std::max(b, c)) / 2 + FLOOR + SMALLEST;
        total += inner[i];
    }
    double sum = 0;
    cdf[0] = 0;
    for (int i = 0; i < bins; ++i) {
        sum += inner[i] / static_cast<float>(total);
        cdf[i + 1] = static_cast<float>(sum);
    }
    for (int k = 0; k < count; ++k) {
        const float u = draws ? draws[k] : (k + 0.5f) / count;
        int upper = static_cast<int>(std::upper_bound(cdf, cdf + bins + 1, u) - cdf);
        const int lower = std::max(upper - 1, 0);
        upper = std::min(upper, bins);
        float width = cdf[upper] - cdf[lower];
        width = width < SMALLEST ? 1 : width;
        const float start = (depths[lower + 1] + depths[lower]) / 2, end = (depths[upper + 1] + depths[upper]) / 2;
        found[k] = start + (u - cdf[lower]) / width * (end - start);
    }
}

// Adds the colours of samples, each by its share, to `mix` (F).
void add_colours(const Field& field, const float* hidden, const float* shares, int samples, float* mix) {
    Lane low = load(mix), high = load(mix + W);
    for (int s = 0; s < samples; s += 8) {
        Lane sums[8][2];
        for (int t = 0; t < 8; ++t) {
            sums[t][0] = load(field.output_bias + 1);
            sums[t][1] = load(field.output_bias + 1 + W);
        }
        for (int h = 0; h < H; ++h) {
            const Lane w0 = load(field.colour + h * F), w1 = load(field.colour + h * F + W);
            for (int t = 0; t < 8; ++t) {
                const float x = hidden[(s + t) * H + h];
                sums[t][0] += w0 * x;
                sums[t][1] += w1 * x;
            }
        }
        for (int t = 0; t < 8 && s + t < samples; ++t) {
            low += shares[s + t] / (1.0f + exp_of(-sums[t][0]));
            high += shares[s + t] / (1.0f + exp_of(-sums[t][1]));
        }
    }
    store(mix, low);
    store(mix + W, high);
}

// Calls `work` in some threads; it is given what calls a function for each number of its share of `count`.
template <class Work>
void shared_out(int64_t count, int64_t together, int threads, Work work) {
    std::atomic<int64_t> next{0};
    const auto share = [&] {
        work([&](auto&& one) {
            for (int64_t start; (start = next.fetch_add(together)) < count;)
                for (int64_t k = start; k < std::min(start + together, count); ++k) one(k);
        });
    };
    std::vector<std::thread> helpers;
    for (int k = 1; k < threads; ++k) helpers.emplace_back(share);
    share();
    for (auto& helper : helpers) helper.join();
}

}  // namespace

extern "C" int agile3d_march(const float* table, int side, int planes, const int* pairs, float scale, const float* hidden,
                             const float* hidden_bias, const float* density, const float* colour,
                             const float* output_bias, int64_t rays, const float* origin, const float* direction,
                             const float* first, int coarse, const float* draws, int64_t draws_step, int fine, float* mix,
                             float* seen, float* depth, float* nearest, float* farthest, int threads) {
    if (coarse < 4 || fine < 1 || coarse > MOST || fine > MOST) return 1;
    const Field field{table, side, planes, pairs, scale, hidden, hidden_bias, density, colour, output_bias};
    const int samples = coarse + fine;  // 5 or more
    const auto one = [&](int64_t ray, float(*layer)[(MOST + 8) * H]) {
        alignas(64) float raw[2][MOST + 8];
        float second[MOST], weights[2 * MOST], depths[2 * MOST], values[2 * MOST], shares[2][MOST + 8];
        int order[2 * MOST], sorted[MOST];
        const float *from = origin + 3 * ray, *along = direction + 3 * ray, *own = first + ray * coarse;
        ask(field, from, along, own, coarse, layer[0], raw[0]);
        march(raw[0], own, coarse, weights);
        draw(own, weights, coarse, draws ? draws + ray * draws_step : nullptr, fine, second);
        ask(field, from, along, second, fine, layer[1], raw[1]);
        for (int k = 0; k < fine; ++k) {
            int place = k;
            for (; place > 0 && second[sorted[place - 1]] > second[k]; --place) sorted[place] = sorted[place - 1];
            sorted[place] = k;
        }
        for (int k = 0, a = 0, b = 0; k < samples; ++k) {
            const bool early = b == fine || (a < coarse && own[a] <= second[sorted[b]]);
            order[k] = early ? a : coarse + sorted[b];
            depths[k] = early ? own[a] : second[sorted[b]];
            values[k] = early ? raw[0][a++] : raw[1][sorted[b++]];
        }
        march(values, depths, samples, weights);
        double total = 0, far = 0;
        for (int k = 0; k < samples; ++k) {
            const float share = ((k ? weights[k - 1] : 0) + (k < samples - 1 ? weights[k] : 0)) / 2;
            (order[k] < coarse ? shares[0][order[k]] : shares[1][order[k] - coarse]) = share;
            if (k == samples - 1) break;
            total += weights[k];
            far += weights[k] * ((depths[k + 1] + depths[k]) / 2);
        }
        float* own_mix = mix + ray * F;
        std::memset(own_mix, 0, F * sizeof(float));
        add_colours(field, layer[0], shares[0], coarse, own_mix);
        add_colours(field, layer[1], shares[1], fine, own_mix);
        seen[ray] = static_cast<float>(total);
        depth[ray] = total > 0 ? static_cast<float>(far / total) : std::numeric_limits<float>::infinity();
        nearest[ray] = depths[0];
        farthest[ray] = depths[samples - 1];
    };
    shared_out(rays, TOGETHER, threads, [&](auto&& each) {
        // Zeros, as the last rows of a pass are read in eights.
        std::vector<float> rows(2 * (MOST + 8) * H, 0.0f);
        each([&](int64_t ray) { one(ray, reinterpret_cast<float(*)[(MOST + 8) * H]>(rows.data())); });
    });
    return 0;
}

// The filter (1, 3, 3, 1) / 4 along both sides of a picture (height + 3, width + 1, channels) with zeros left and right,
// then bias, noise (height, width), leaky ReLU and clamp; channels are a multiple of 16.
extern "C" void agile3d_smooth(const float* picture, int height, int width, int channels, const float* bias,
                               const float* noise, float slope, float clamp, float* out, int threads) {
    constexpr int BLOCK = 32;
    constexpr float TAPS[4] = {0.25f, 0.75f, 0.75f, 0.25f};
    const int64_t line = static_cast<int64_t>(width + 1) * channels;
    shared_out(height, 4, threads, [&](auto&& each) {
        std::vector<float> mixed((BLOCK + 3) * channels);
        each([&](int64_t y) {
            const float* rows[4];
            for (int k = 0; k < 4; ++k) rows[k] = picture + (y + k) * line;
            for (int left = 0; left < width; left += BLOCK) {
                const int count = std::min(BLOCK, width - left);
                for (int k = 0; k < count + 3; ++k) {
                    const int column = left + k - 1;
                    float* to = mixed.data() + k * channels;
                    if (column < 0 || column > width) {
                        std::memset(to, 0, channels * sizeof(float));
                        continue;
                    }
                    const int64_t at = static_cast<int64_t>(column) * channels;
                    for (int c = 0; c < channels; c += W)
                        store(to + c, load(rows[0] + at + c) * TAPS[0] + load(rows[1] + at + c) * TAPS[1] +
                                          load(rows[2] + at + c) * TAPS[2] + load(rows[3] + at + c) * TAPS[3]);
                }
                for (int k = 0; k < count; ++k) {
                    const float* from = mixed.data() + k * channels;
                    const int64_t pixel = y * width + left + k;
                    const float more = noise ? noise[pixel] : 0;
                    for (int c = 0; c < channels; c += W) {
                        Lane x = (load(from + c) + load(from + 3 * channels + c)) * TAPS[0] +
                                 (load(from + channels + c) + load(from + 2 * channels + c)) * TAPS[1];
                        x += load(bias + c) + more;
                        x = x < 0 ? x * slope : x;
                        store(out + pixel * channels + c, lower(higher(x, all(-clamp)), all(clamp)));
                    }
                }
            }
        });
    });
}
