// The demo's C program, compiled beside the library that `rabbet build` made.
#include "digits.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_us(void) {
  struct timespec t;
  timespec_get(&t, TIME_UTC);
  return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* classify IMAGES.f32 COUNT: prints one label a line, then the median time of one image in us. */
int main(int argc, char **argv) {
  if (argc != 3) return 2;
  long count = atol(argv[2]);
  float *images = malloc((size_t)count * 64 * sizeof(float));
  float *logits = malloc((size_t)count * 10 * sizeof(float));
  FILE *file = fopen(argv[1], "rb");
  if (!images || !logits || !file) return 3;
  if (fread(images, 64 * sizeof(float), (size_t)count, file) != (size_t)count) return 4;
  fclose(file);
  digits_model *model = digits_open();
  if (!model) return 5;
  digits_status status = digits_predict(model, count, images, logits);
  if (status != DIGITS_OK) {
    fprintf(stderr, "%s\n", digits_message(status));
    return 6;
  }
  for (long i = 0; i < count; i++) {
    int best = 0;
    for (int c = 1; c < 10; c++)
      if (logits[10 * i + c] > logits[10 * i + best]) best = c;
    printf("%d\n", best);
  }
  enum { RUNS = 201 };
  static double times[RUNS];
  for (int r = 0; r < RUNS; r++) {
    double begin = now_us();
    digits_predict(model, 1, images, logits);
    times[r] = now_us() - begin;
  }
  qsort(times, RUNS, sizeof times[0], compare);
  printf("%f\n", times[RUNS / 2]);
  digits_close(model);
  free(images);
  free(logits);
  return 0;
}
