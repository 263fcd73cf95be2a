/* Loops that PyTorch has no single operator for, on float32 maps in channels-last format.
 *
 * Each would otherwise be several operators, every one a walk through memory that takes longer than its arithmetic. What
 * they compute, and in PyTorch's operators, too, is said where they are called: winograd.py, norm_operator.py,
 * resize_conv_tiles.py and few_channels.py. cpu_loops.py compiles this file and puts the matrices of minimal filtering
 * before it: OF_INPUT[6 * 6], OF_KERNEL[6 * 3], OF_OUTPUT[4 * 6] and the latter two transposed. As constants their zeros
 * cost nothing.
 */
#include <stdint.h>
#include <string.h>

/* A vector, and the rows of a block of a matrix product whose sums fit the registers. */
#ifdef __AVX512F__
#define LANES 16
#define ROWS 12
#else
#define LANES 8
#define ROWS 6
#endif

typedef int64_t count;
#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16")

/* Compilers without vectors of this width split them; `aligned` lets them lie anywhere. */
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int lanes_mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *from, count lanes) {
    if (lanes >= LANES) return *(const vec *)from;
    vec x = {0};
    memcpy(&x, from, sizeof(float) * lanes);
    return x;
}

INLINE void store(float *to, vec x, count lanes) {
    if (lanes >= LANES) *(vec *)to = x;
    else memcpy(to, &x, sizeof(float) * lanes);
}

INLINE count least(count a, count b) { return a < b ? a : b; }

/* matrix (m, n) times tile (n, n) times the matrix transposed. */
INLINE void both_axes(int m, int n, const float *matrix, const vec *tile, vec *result) {
    vec half[36];
    UNROLLED for (int i = 0; i < m; i++)
        UNROLLED for (int j = 0; j < n; j++) {
            vec sum = {0};
            UNROLLED for (int k = 0; k < n; k++)
                if (matrix[i * n + k] != 0) sum += matrix[i * n + k] * tile[k * n + j];
            half[i * n + j] = sum;
        }
    UNROLLED for (int i = 0; i < m; i++)
        UNROLLED for (int j = 0; j < m; j++) {
            vec sum = {0};
            UNROLLED for (int k = 0; k < n; k++)
                if (matrix[j * n + k] != 0) sum += matrix[j * n + k] * half[i * n + k];
            result[i * m + j] = sum;
        }
}

/* Each thread takes its part of the work. */
#define IN_PARALLEL _Pragma("omp parallel for num_threads(threads) schedule(static, 1)") for (int part = 0; part < threads; part++)

/* An image (height, width, channels) of whole vectors. */
typedef struct {
    float *pixels;
    count height, width, channels;
} image;

/* The transform of the tile whose first pixel is (top, left), zeros beyond the border: 36 rows, `stride` values apart. */
INLINE void tile_to_planes(int side, const float *matrix, const image *from, count top, count left, float *planes,
                           count stride) {
    count width = from->width, channels = from->channels;
    const float *corner = from->pixels + (top * width + left) * channels;
    int inside = top >= 0 && left >= 0 && top + side <= from->height && left + side <= width;
    for (count c = 0; c < channels; c += LANES) {
        vec tile[36], result[36];
        if (inside) {
            UNROLLED for (int i = 0; i < side; i++)
                UNROLLED for (int j = 0; j < side; j++)
                    tile[i * side + j] = *(const vec *)(corner + (i * width + j) * channels + c);
        } else
            for (int i = 0; i < side; i++)
                for (int j = 0; j < side; j++) {
                    int there = top + i >= 0 && top + i < from->height && left + j >= 0 && left + j < width;
                    tile[i * side + j] = there ? load(corner + (i * width + j) * channels + c, LANES) : (vec){0};
                }
        both_axes(6, side, matrix, tile, result);
        for (int i = 0; i < 36; i++) *(vec *)(planes + i * stride + c) = result[i];
    }
}

/* The tile of 4 x 4 pixels whose first is (top, left), from 36 rows, `stride` values apart; bias or NULL. */
INLINE void planes_to_tile(const float *planes, count stride, const float *bias, image *to, count top, count left) {
    count bottom = least(4, to->height - top), right = least(4, to->width - left);
    for (count c = 0; c < to->channels; c += LANES) {
        vec plane[36], result[16], added = {0};
        if (bias) added = *(const vec *)(bias + c);
        for (int i = 0; i < 36; i++) plane[i] = *(const vec *)(planes + i * stride + c);
        both_axes(4, 6, OF_OUTPUT, plane, result);
        float *corner = to->pixels + (top * to->width + left) * to->channels + c;
        for (count i = 0; i < bottom; i++)
            for (count j = 0; j < right; j++)
                *(vec *)(corner + (i * to->width + j) * to->channels) = result[i * 4 + j] + added;
    }
}

/* A block of a matrix product: rows of `a` are `a_row` values apart, its columns `a_step`; it may be transposed. */
INLINE void multiply_block(int rows, int vectors, const float *a, count a_row, count a_step, count steps,
                           const float *b, count b_row, int add, float *out, count out_row) {
    vec sum[ROWS * 2];
    UNROLLED for (int r = 0; r < rows; r++)
        UNROLLED for (int v = 0; v < vectors; v++) {
            sum[r * 2 + v] = (vec){0};
            if (add) {
                sum[r * 2 + v] = *(const vec *)(out + r * out_row + v * LANES);
                __builtin_prefetch(out + (rows + r) * out_row + v * LANES, 1); /* the next block's */
            }
        }
    for (count k = 0; k < steps; k++) {
        vec right[2];
        UNROLLED for (int v = 0; v < vectors; v++) right[v] = *(const vec *)(b + k * b_row + v * LANES);
        UNROLLED for (int r = 0; r < rows; r++)
            UNROLLED for (int v = 0; v < vectors; v++) sum[r * 2 + v] += a[r * a_row + k * a_step] * right[v];
    }
    UNROLLED for (int r = 0; r < rows; r++)
        UNROLLED for (int v = 0; v < vectors; v++) *(vec *)(out + r * out_row + v * LANES) = sum[r * 2 + v];
}

/* All rows times some vectors of columns: blocks of as many rows as possible. */
INLINE void multiply_rows(int vectors, const float *a, count a_row, count a_step, count rows, count steps,
                          const float *b, count b_row, int add, float *out, count out_row) {
    count m = 0;
#define BLOCKS_OF(size)                                                                               \
    for (; m + (size) <= rows; m += (size))                                                           \
        multiply_block(size, vectors, a + m * a_row, a_row, a_step, steps, b, b_row, add, out + m * out_row, \
                       out_row);
    BLOCKS_OF(ROWS)
    BLOCKS_OF(4)
    BLOCKS_OF(1)
#undef BLOCKS_OF
}

/* The columns of a panel, which are read together: two vectors. Matrices in panels lie panel after panel in memory, for
 * their rows would otherwise often lie a multiple of 512 bytes apart, where a cache has room for few of them. */
#define PANEL (2 * LANES)

/* Where a value of such a matrix lies, or in one without panels. */
INLINE count place(count row, count column, count rows, count columns, int in_panels) {
    count first = column - column % PANEL;
    return in_panels ? first * rows + row * least(PANEL, columns - first) + column - first : row * columns + column;
}

/* out (rows, columns) = or += a (rows, steps) times b (steps, columns), both maybe in panels; whole vectors of columns. */
INLINE void multiply(const float *a, count a_row, count a_step, count rows, count steps, const float *b,
                     int b_in_panels, count columns, int add, float *out, int out_in_panels) {
    for (count n = 0; n < columns; n += PANEL) {
        count width = least(PANEL, columns - n), b_row = b_in_panels ? width : columns;
        count out_row = out_in_panels ? width : columns;
        const float *of_b = b + place(0, n, steps, columns, b_in_panels);
        float *of_out = out + place(0, n, rows, columns, out_in_panels);
        if (width == PANEL) multiply_rows(2, a, a_row, a_step, rows, steps, of_b, b_row, add, of_out, out_row);
        else multiply_rows(1, a, a_row, a_step, rows, steps, of_b, b_row, add, of_out, out_row);
    }
}

/* Tiles are worked through in blocks, each thread its own, whose planes stay in the second cache. Between two planes lie
 * some values that nobody uses: without, the same channel of all planes would often lie a multiple of 4 kB apart, and a
 * cache has room for a dozen such lines alone. */
#define BETWEEN_PLANES LANES

/* 36 planes (channels, out_channels), maybe in panels, from kernels (out_channels, channels, 3, 3) whose values lie so far
 * apart, maybe turned by half a circle. */
void winograd_kernels(const float *weight, count out_step, count in_step, count row_step, count column_step,
                      count turned, count channels, count out_channels, count in_panels, float *planes, int threads) {
    if (turned) {
        weight += 2 * (row_step + column_step);
        row_step = -row_step;
        column_step = -column_step;
    }
    IN_PARALLEL {
        for (count c = channels * part / threads; c < channels * (part + 1) / threads; c++)
            for (count o = 0; o < out_channels; o += LANES) {
                count lanes = least(LANES, out_channels - o), at = place(c, o, channels, out_channels, in_panels);
                vec kernel[9] = {0}, plane[36];
                const float *from = weight + o * out_step + c * in_step;
                for (count lane = 0; lane < lanes; lane++)
                    for (int tap = 0; tap < 9; tap++)
                        kernel[tap][lane] = from[lane * out_step + tap / 3 * row_step + tap % 3 * column_step];
                both_axes(6, 3, OF_KERNEL, kernel, plane);
                for (int p = 0; p < 36; p++) store(planes + p * channels * out_channels + at, plane[p], lanes);
            }
    }
}

/* The adjoint: from the sum of `parts` gradients (36, channels, out_channels), maybe in panels, that of kernels
 * (out_channels, channels, 3, 3), without gaps. */
void winograd_kernels_adjoint(const float *of_planes, count parts, count in_panels, count channels, count out_channels,
                              float *of_weight, int threads) {
    count size = channels * out_channels;
    IN_PARALLEL {
        for (count c = channels * part / threads; c < channels * (part + 1) / threads; c++)
            for (count o = 0; o < out_channels; o += LANES) {
                count lanes = least(LANES, out_channels - o), at = place(c, o, channels, out_channels, in_panels);
                vec kernel[9], plane[36];
                for (int p = 0; p < 36; p++) {
                    plane[p] = (vec){0};
                    for (count k = 0; k < parts; k++)
                        plane[p] += load(of_planes + (k * 36 + p) * size + at, lanes);
                }
                both_axes(3, 6, OF_KERNEL_TRANSPOSED, plane, kernel);
                for (count lane = 0; lane < lanes; lane++)
                    for (int tap = 0; tap < 9; tap++)
                        of_weight[((o + lane) * channels + c) * 9 + tap] = kernel[tap][lane];
            }
    }
}

/* conv2d with padding 1: an image (height, width, channels) to one of `out_channels`, by the planes of kernels (36,
 * channels, out_channels) in panels. `scratch` has room for 36 * (step * (channels + out_channels) + 2 * BETWEEN_PLANES)
 * of each thread. */
void winograd_conv(float *pixels, count height, count width, count channels, const float *kernels, const float *bias,
                   float *out, count out_channels, count step, float *scratch, int threads) {
    image from = {pixels, height, width, channels}, to = {out, height, width, out_channels};
    count columns = (width + 3) / 4, tiles = (height + 3) / 4 * columns;
    count stride = step * channels + BETWEEN_PLANES, out_stride = step * out_channels + BETWEEN_PLANES;
    count next = 0;
    IN_PARALLEL {
        float *inputs = scratch + part * 36 * (stride + out_stride), *outputs = inputs + 36 * stride;
        /* who is done takes the next block: cores need not be equally fast */
        for (count first; (first = step * __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < tiles;) {
            count last = least(first + step, tiles);
            for (count t = first; t < last; t++)
                tile_to_planes(6, OF_INPUT, &from, t / columns * 4 - 1, t % columns * 4 - 1,
                               inputs + (t - first) * channels, stride);
            for (int p = 0; p < 36; p++)
                multiply(inputs + p * stride, channels, 1, last - first, channels,
                         kernels + p * channels * out_channels, 1, out_channels, 0, outputs + p * out_stride, 0);
            for (count t = first; t < last; t++)
                planes_to_tile(outputs + (t - first) * out_channels, out_stride, bias, &to, t / columns * 4,
                               t % columns * 4);
        }
    }
}

/* Adds the gradient of the kernels from an image and the gradient of the result, for every thread (36, channels,
 * out_channels) in panels; `scratch` as of winograd_conv. */
void winograd_kernel_gradient(float *pixels, count height, count width, count channels, float *grad,
                              count out_channels, float *of_kernels, count step, float *scratch, int threads) {
    image from = {pixels, height, width, channels}, of_result = {grad, height, width, out_channels};
    count columns = (width + 3) / 4, tiles = (height + 3) / 4 * columns;
    count stride = step * channels + BETWEEN_PLANES, out_stride = step * out_channels + BETWEEN_PLANES;
    IN_PARALLEL {
        float *inputs = scratch + part * 36 * (stride + out_stride), *outputs = inputs + 36 * stride;
        float *own = of_kernels + part * 36 * channels * out_channels;
        /* always the same blocks, for sums must not depend on who was faster */
        for (count first = step * part; first < tiles; first += step * threads) {
            count last = least(first + step, tiles);
            for (count t = first; t < last; t++) {
                tile_to_planes(6, OF_INPUT, &from, t / columns * 4 - 1, t % columns * 4 - 1,
                               inputs + (t - first) * channels, stride);
                tile_to_planes(4, OF_OUTPUT_TRANSPOSED, &of_result, t / columns * 4, t % columns * 4,
                               outputs + (t - first) * out_channels, out_stride);
            }
            for (int p = 0; p < 36; p++)
                multiply(inputs + p * stride, 1, channels, channels, last - first, outputs + p * out_stride,
                         0, out_channels, 1, own + p * channels * out_channels, 1);
        }
    }
}

/* Pixels whose neighbours' values are gathered at a time. */
#define PIXELS 48

/* The values (3, 3, channels) around a pixel, zeros beyond the border. */
INLINE void around(const image *from, count top, count left, float *values) {
    count row = 3 * from->channels, width = from->width, channels = from->channels;
    if (top > 0 && left > 0 && top < from->height - 1 && left < width - 1) {
        const float *corner = from->pixels + ((top - 1) * width + left - 1) * channels;
        for (int i = 0; i < 3; i++) memcpy(values + i * row, corner + i * width * channels, sizeof(float) * row);
        return;
    }
    memset(values, 0, sizeof(float) * 3 * row);
    for (count i = top - 1; i <= top + 1; i++)
        for (count j = left - 1; j <= left + 1; j++)
            if (i >= 0 && i < from->height && j >= 0 && j < width)
                memcpy(values + (i - top + 1) * row + (j - left + 1) * channels,
                       from->pixels + (i * width + j) * channels, sizeof(float) * channels);
}

/* Gradients of conv2d with padding 1 to few channels, from an image (height, width, channels) and the gradient (height,
 * width, out_channels) of the result: `of_x` by turned kernels (3, 3, out_channels, channels), if not NULL; to
 * `of_kernels`, if not NULL, those of the turned kernels are added, for every thread (channels, columns), of which 9 *
 * out_channels count. `columns` are whole vectors; `scratch` has room for (48 + channels) * columns of each thread, zero
 * before. */
void few_channels_gradients(const float *x, float *grad, count height, count width, count channels, count out_channels,
                            const float *turned, count columns, float *of_x, float *of_kernels, float *scratch,
                            int threads) {
    image of_result = {grad, height, width, out_channels};
    IN_PARALLEL {
        float *values = scratch + part * (PIXELS + channels) * columns, *of_row = values + PIXELS * columns;
        float *own = of_kernels ? of_kernels + part * channels * columns : NULL;
        for (count top = height * part / threads; top < height * (part + 1) / threads; top++) {
            for (count left = 0; left < width; left += PIXELS) {
                count pixels = least(PIXELS, width - left), first = (top * width + left) * channels;
                for (count pixel = 0; pixel < pixels; pixel++)
                    around(&of_result, top, left + pixel, values + pixel * columns);
                if (of_x)
                    multiply(values, columns, 1, pixels, 9 * out_channels, turned, 0, channels, 0, of_x + first, 0);
                if (of_kernels)
                    multiply(x + first, 1, channels, channels, pixels, values, 0, columns, left > 0, of_row, 0);
            }
            if (of_kernels) /* sums of sums: one of all pixels would lose digits */
                for (count i = 0; i < channels * columns; i += LANES) *(vec *)(own + i) += *(const vec *)(of_row + i);
        }
    }
}

/* Rows of `channels` values are worked through in pieces that stay in the first cache: in a piece, the values that belong
 * to some channels are loaded once, and its sums are short enough for single precision. */
typedef struct {
    count first, last;
} piece;

INLINE count pieces(count rows, count channels) { return rows * channels / 4096 + 1; }

INLINE piece piece_of(count rows, count channels, count number) {
    count all = pieces(rows, channels);
    return (piece){rows * number / all, rows * (number + 1) / all};
}

/* The pieces of a thread. */
#define FOR_PIECES(rows, channels, part, threads) \
    for (count number = pieces(rows, channels) * (part) / (threads); \
         number < pieces(rows, channels) * ((part) + 1) / (threads); number++)

/* What follows for all channels, with `lanes` a constant where it can be. */
#define FOR_CHANNELS(channels, ...)                                    \
    for (count c = 0; c < (channels); c += LANES) {                    \
        if ((channels) - c >= LANES) {                                 \
            enum { lanes = LANES };                                    \
            __VA_ARGS__                                                \
        } else {                                                       \
            count lanes = (channels) - c;                              \
            __VA_ARGS__                                                \
        }                                                              \
    }

INLINE vec where(lanes_mask mask, vec yes, vec no) { return (vec)(((lanes_mask)yes & mask) | ((lanes_mask)no & ~mask)); }

/* Below zero times the slope; a slope of zero makes no NaN of minus infinity. */
INLINE vec leaky(vec x, float slope) {
    vec below = {0};
    if (slope != 0) below = x * slope;
    return where(x < 0, below, x);
}

/* The gradient of what comes before the nonlinearity, from that of what comes after. */
INLINE vec before_nonlin(vec grad, vec normed, float slope) { return where(normed > 0, grad, grad * slope); }

/* Sums over the rows for mean and variance, for every thread 3 * channels, zero before: of the pieces' sums, of the
 * squares around each piece's mean, and of the pieces' rows times mean squared. */
void moments(const float *x, count rows, count channels, double *sums, int threads) {
    IN_PARALLEL {
        double *sum = sums + part * 3 * channels, *around = sum + channels, *between = around + channels;
        FOR_PIECES(rows, channels, part, threads) {
            piece here = piece_of(rows, channels, number);
            float size = here.last - here.first;
            if (size == 0) continue;
            FOR_CHANNELS(channels, {
                /* apart from the first row: sums of values far from zero would lose what distinguishes them */
                vec start = load(x + here.first * channels + c, lanes), total = {0}, squares = {0};
                for (count row = here.first; row < here.last; row++) total += load(x + row * channels + c, lanes) - start;
                vec mean = start + total / size;
                for (count row = here.first; row < here.last; row++) {
                    vec apart = load(x + row * channels + c, lanes) - mean;
                    squares += apart * apart;
                }
                for (count lane = 0; lane < lanes; lane++) {
                    double middle = (double)start[lane] + (double)total[lane] / size;
                    sum[c + lane] += middle * size;
                    around[c + lane] += squares[lane];
                    between[c + lane] += middle * middle * size;
                }
            })
        }
    }
}

/* out = leaky(scale * x + shift); the rows of `out` lie `stride` values apart. */
void norm_nonlin(const float *x, float *out, count stride, count rows, count channels, const float *scale,
                 const float *shift, float slope, int threads) {
    IN_PARALLEL {
        FOR_PIECES(rows, channels, part, threads) {
            piece here = piece_of(rows, channels, number);
            FOR_CHANNELS(channels, {
                vec by = load(scale + c, lanes), plus = load(shift + c, lanes);
                for (count row = here.first; row < here.last; row++)
                    store(out + row * stride + c, leaky(load(x + row * channels + c, lanes) * by + plus, slope), lanes);
            })
        }
    }
}

/* Sums over the rows of the gradient before the nonlinearity, and of it times the normalised x: for every thread
 * 2 * channels, zero before. The rows of `grad` lie `stride` values apart. */
void norm_nonlin_sums(const float *x, const float *grad, count stride, count rows, count channels, const float *scale,
                      const float *shift, const float *mean, const float *inverse, float slope, double *sums,
                      int threads) {
    IN_PARALLEL {
        double *plain = sums + part * 2 * channels, *weighted = plain + channels;
        FOR_PIECES(rows, channels, part, threads) {
            piece here = piece_of(rows, channels, number);
            FOR_CHANNELS(channels, {
                vec by = load(scale + c, lanes), plus = load(shift + c, lanes), middle = load(mean + c, lanes);
                vec of_piece = {0}, times_x = {0};
                for (count row = here.first; row < here.last; row++) {
                    vec value = load(x + row * channels + c, lanes);
                    vec g = before_nonlin(load(grad + row * stride + c, lanes), value * by + plus, slope);
                    of_piece += g;
                    times_x += g * (value - middle);
                }
                for (count lane = 0; lane < lanes; lane++) {
                    plain[c + lane] += of_piece[lane];
                    weighted[c + lane] += (double)times_x[lane] * inverse[c + lane];
                }
            })
        }
    }
}

/* out = scale * (gradient before the nonlinearity) + factor * x + offset */
void norm_nonlin_gradient(const float *x, const float *grad, count stride, float *out, count rows, count channels,
                          const float *scale, const float *shift, const float *factor, const float *offset,
                          float slope, int threads) {
    IN_PARALLEL {
        FOR_PIECES(rows, channels, part, threads) {
            piece here = piece_of(rows, channels, number);
            FOR_CHANNELS(channels, {
                vec by = load(scale + c, lanes), plus = load(shift + c, lanes);
                vec times = load(factor + c, lanes), added = load(offset + c, lanes);
                for (count row = here.first; row < here.last; row++) {
                    vec value = load(x + row * channels + c, lanes);
                    vec g = before_nonlin(load(grad + row * stride + c, lanes), value * by + plus, slope);
                    store(out + row * channels + c, by * g + (times * value + added), lanes);
                }
            })
        }
    }
}

/* A sparse matrix: of row r the entries starts[r] to starts[r + 1]; `offsets` say where the rows it multiplies begin. */
typedef struct {
    const count *starts, *offsets;
    const float *values;
} sparse;

/* A row of a sparse matrix times rows of `length` values, plus bias or NULL. */
INLINE void sparse_row(const sparse *matrix, count row, const float *from, count length, const float *bias, float *to) {
    for (count c = 0; c < length; c += LANES) {
        count lanes = least(LANES, length - c);
        vec sum = bias ? load(bias + c, lanes) : (vec){0};
        for (count entry = matrix->starts[row]; entry < matrix->starts[row + 1]; entry++)
            sum += matrix->values[entry] * load(from + matrix->offsets[entry] + c, lanes);
        store(to + c, sum, lanes);
    }
}

/* Mixed channels (coarse rows, coarse columns, row taps, column taps, channels) to (rows, columns, channels): by the
 * matrix of the rows, (rows, coarse rows * row taps), then by that of the columns. `scratch` has room for what the
 * first product makes of a row, for every thread. */
void interpolate_taps(const float *y, count coarse_columns, count row_taps, count column_taps, count channels,
                      const sparse *of_rows, count rows, const sparse *of_columns, count columns, const float *bias,
                      float *out, float *scratch, int threads) {
    count length = column_taps * channels;
    IN_PARALLEL {
        float *row = scratch + part * coarse_columns * length;
        for (count p = rows * part / threads; p < rows * (part + 1) / threads; p++) {
            for (count x = 0; x < coarse_columns; x++)
                sparse_row(of_rows, p, y + x * row_taps * length, length, NULL, row + x * length);
            for (count q = 0; q < columns; q++)
                sparse_row(of_columns, q, row, channels, bias, out + (p * columns + q) * channels);
        }
    }
}

/* The adjoint: (rows, columns, channels) to mixed channels, by the transposed matrices, the columns first. `scratch`
 * has room for what the first product makes of all rows. */
void interpolate_taps_adjoint(const float *grad, count coarse_columns, count row_taps, count column_taps,
                              count channels, const sparse *of_rows, count rows, count coarse_rows,
                              const sparse *of_columns, count columns, float *y, float *scratch, int threads) {
    count length = column_taps * channels, row_length = coarse_columns * length;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (count p = 0; p < rows; p++)
        for (count x = 0; x < coarse_columns * column_taps; x++)
            sparse_row(of_columns, x, grad + p * columns * channels, channels, NULL,
                       scratch + p * row_length + x * channels);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (count k = 0; k < coarse_rows; k++)
        for (count x = 0; x < coarse_columns; x++)
            for (count tap = 0; tap < row_taps; tap++)
                sparse_row(of_rows, k * row_taps + tap, scratch + x * length, length, NULL,
                           y + ((k * coarse_columns + x) * row_taps + tap) * length);
}
