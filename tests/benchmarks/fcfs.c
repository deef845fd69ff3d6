/* The recursion of simulation/data_plane/fcfs_kernel.py in C, to say what the compiled Python costs. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

static void push(double *heap, int64_t size, double value) {
    int64_t at = size;
    while (at > 0 && heap[(at - 1) / 2] > value) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = value;
}

static void drop_least(double *heap, int64_t size) {
    double last = heap[size - 1];
    int64_t at = 0;
    while (2 * at + 1 < size - 1) {
        int64_t child = 2 * at + 1;
        if (child + 1 < size - 1 && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
}

/* patience may be NULL, room negative for none; outcome 0 served, 1 rejected, 2 abandoned. */
void serve(int64_t n, const double *arrivals, const double *services, const double *patience, int64_t room,
           int64_t servers, double *starts, double *finish, uint8_t *outcome) {
    int64_t leaves = 1;
    while (leaves < servers) leaves *= 2;
    double *loser_s = malloc(leaves * sizeof(double));
    int64_t *leaf = malloc(leaves * sizeof(int64_t));
    double *first_s = malloc(2 * leaves * sizeof(double));
    int64_t *winners = malloc(2 * leaves * sizeof(int64_t));
    for (int64_t i = 0; i < leaves; i++) {
        first_s[leaves + i] = i < servers ? 0.0 : INFINITY;
        winners[leaves + i] = i;
    }
    for (int64_t node = leaves - 1; node > 0; node--) {
        int left_wins = first_s[2 * node] <= first_s[2 * node + 1];
        int64_t won = 2 * node + !left_wins, lost = 2 * node + left_wins;
        first_s[node] = first_s[won];
        winners[node] = winners[won];
        loser_s[node] = first_s[lost];
        leaf[node] = winners[lost];
    }
    double free_s = first_s[1];
    int64_t winner = winners[1];
    int limited = room >= 0 && room < n;
    int64_t places = limited ? (room > 0 ? room : 1) : 1, slot = 0, waiting = 0;
    double *leaving_s = malloc((places + 1) * sizeof(double));
    for (int64_t i = 0; i <= places; i++) leaving_s[i] = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double arrival_s = arrivals[i];
        double start_s = arrival_s > free_s ? arrival_s : free_s;
        if (limited && start_s > arrival_s) {
            int full;
            if (!patience) {
                full = room == 0 || leaving_s[slot] > arrival_s;
            } else {
                while (waiting > 0 && leaving_s[0] <= arrival_s) drop_least(leaving_s, waiting--);
                full = waiting >= room;
            }
            if (full) {
                outcome[i] = 1;
                starts[i] = finish[i] = NAN;
                continue;
            }
        }
        int abandons = patience && start_s - arrival_s > patience[i];
        double leaves_line_s = abandons ? arrival_s + patience[i] : start_s;
        if (limited && leaves_line_s > arrival_s) {
            if (!patience) {
                leaving_s[slot] = leaves_line_s;
                slot = slot + 1 < room ? slot + 1 : 0;
            } else {
                push(leaving_s, waiting++, leaves_line_s);
            }
        }
        if (abandons) {
            outcome[i] = 2;
            starts[i] = finish[i] = NAN;
            continue;
        }
        free_s = start_s + services[i];
        starts[i] = start_s;
        finish[i] = free_s;
        outcome[i] = 0;
        for (int64_t node = (winner + leaves) >> 1; node > 0; node >>= 1) {
            double other_s = loser_s[node];
            int64_t other = leaf[node];
            int sooner = other_s < free_s;
            loser_s[node] = sooner ? free_s : other_s;
            leaf[node] = sooner ? winner : other;
            free_s = sooner ? other_s : free_s;
            winner = sooner ? other : winner;
        }
    }
    free(loser_s), free(leaf), free(first_s), free(winners), free(leaving_s);
}
