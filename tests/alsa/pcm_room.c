/* An ALSA capture device for tests: a recording played into a "room" that goes on whether anyone listens or not.
 *
 * The room's time starts at the first open in a process and never stops, so sound that passes while the device is
 * unplugged, stalled or overrun is lost, as it is with a microphone. Words in the control file make faults, read
 * again and again: "unplug" (ENODEV, also at open), "busy" (EBUSY at open), "stall" (open, but no data ever),
 * "flood" (poll says ready, nothing to read).
 *
 * pcm_type.room { lib "/path/pcm_room.so" }
 * pcm.mic { type room file "/path/sound.raw" rate 48000 channels 2 control "/path/control" ppm 0 }
 */
#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <unistd.h>

typedef struct {
    snd_pcm_ioplug_t io;
    int sound;            /* descriptor of the recording */
    int timer;            /* what the reader polls */
    char *control;        /* path of the control file, or NULL */
    char words[128];      /* what it said last */
    double told_at;       /* and when */
    double rate;          /* true frames per second, drift included */
    int64_t start;        /* frame of the room at which this capture started */
    int64_t taken;        /* frames the reader has taken since then */
    bool running;
} room_t;

static double room_epoch = -1;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int64_t room_frame(const room_t *room) {
    if (room_epoch < 0)
        room_epoch = seconds();
    return (int64_t)((seconds() - room_epoch) * room->rate);
}

/* The control file is read every 10 ms at most: the tests also measure what capture costs. */
static bool told(room_t *room, const char *word) {
    double now = seconds();
    if (now - room->told_at > 0.01) {
        int file = room->control ? open(room->control, O_RDONLY | O_CLOEXEC) : -1;
        ssize_t size = file < 0 ? 0 : read(file, room->words, sizeof room->words - 1);
        if (file >= 0)
            close(file);
        room->words[size < 0 ? 0 : size] = 0;
        room->told_at = now;
    }
    return strstr(room->words, word) != NULL;
}

static int64_t captured(const room_t *room) {
    return room->running ? room_frame(room) - room->start : 0;
}

static int room_stop(snd_pcm_ioplug_t *io) {
    room_t *room = io->private_data;
    struct itimerspec never = {{0, 0}, {0, 0}};
    room->running = false;
    return timerfd_settime(room->timer, 0, &never, NULL);
}

static int room_start(snd_pcm_ioplug_t *io) {
    room_t *room = io->private_data;
    int64_t ns = (int64_t)(1e9 * (double)io->period_size / room->rate);
    struct timespec period = {ns / 1000000000, ns % 1000000000};
    struct itimerspec every = {period, period};
    room->start = room_frame(room);
    room->taken = 0;
    room->running = true;
    return timerfd_settime(room->timer, 0, &every, NULL);
}

static int room_prepare(snd_pcm_ioplug_t *io) {
    room_t *room = io->private_data;
    room_stop(io);
    room->taken = 0;
    return 0;
}

static snd_pcm_sframes_t room_pointer(snd_pcm_ioplug_t *io) {
    room_t *room = io->private_data;
    if (told(room, "unplug")) {
        snd_pcm_ioplug_set_state(io, SND_PCM_STATE_DISCONNECTED);
        return -ENODEV;
    }
    if (told(room, "stall") || told(room, "flood"))
        return room->taken % (int64_t)io->buffer_size;
    int64_t frames = captured(room);
    if (frames - room->taken >= (int64_t)io->buffer_size)
        return -EPIPE;
    return frames % (int64_t)io->buffer_size;
}

static snd_pcm_sframes_t room_transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas,
                                       snd_pcm_uframes_t offset, snd_pcm_uframes_t frames) {
    room_t *room = io->private_data;
    size_t width = 2 * io->channels;
    char *to = (char *)areas->addr + (areas->first + areas->step * offset) / 8;
    ssize_t got = pread(room->sound, to, frames * width, (room->start + room->taken) * (int64_t)width);
    if (got < 0)
        got = 0;
    memset(to + got, 0, frames * width - (size_t)got);
    room->taken += (int64_t)frames;
    return (snd_pcm_sframes_t)frames;
}

static int room_revents(snd_pcm_ioplug_t *io, struct pollfd *pollfds, unsigned count, unsigned short *events) {
    room_t *room = io->private_data;
    uint64_t ticks;
    (void)pollfds;
    (void)count;
    if (told(room, "flood")) { /* the timer is not read: poll returns at once, for ever */
        *events = POLLIN;
        return 0;
    }
    if (read(room->timer, &ticks, sizeof ticks) < 0)
        ticks = 0;
    if (told(room, "unplug")) {
        snd_pcm_ioplug_set_state(io, SND_PCM_STATE_DISCONNECTED);
        *events = POLLERR;
        return 0;
    }
    bool ready = !told(room, "stall") && captured(room) - room->taken >= (int64_t)io->period_size;
    *events = ready ? POLLIN : 0;
    return 0;
}

static int room_close(snd_pcm_ioplug_t *io) {
    room_t *room = io->private_data;
    close(room->sound);
    close(room->timer);
    free(room->control);
    free(room);
    return 0;
}

static const snd_pcm_ioplug_callback_t calls = {
    .start = room_start,
    .stop = room_stop,
    .prepare = room_prepare,
    .pointer = room_pointer,
    .transfer = room_transfer,
    .poll_revents = room_revents,
    .close = room_close,
};

static int constrain(snd_pcm_ioplug_t *io, unsigned rate, unsigned channels) {
    unsigned access[] = {SND_PCM_ACCESS_RW_INTERLEAVED, SND_PCM_ACCESS_MMAP_INTERLEAVED};
    unsigned format[] = {SND_PCM_FORMAT_S16_LE};
    int error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_ACCESS, 2, access);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_FORMAT, 1, format);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_RATE, rate, rate);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_CHANNELS, channels, channels);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, 64, 1 << 16);
    if (error >= 0)
        error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_BUFFER_BYTES, 128, 1 << 20);
    return error;
}

SND_PCM_PLUGIN_DEFINE_FUNC(room) {
    snd_config_iterator_t place, next;
    const char *file = NULL, *control = NULL;
    long rate = 16000, channels = 1, ppm = 0;
    (void)root;
    snd_config_for_each(place, next, conf) {
        snd_config_t *field = snd_config_iterator_entry(place);
        const char *key;
        if (snd_config_get_id(field, &key) < 0)
            continue;
        if (!strcmp(key, "file"))
            snd_config_get_string(field, &file);
        else if (!strcmp(key, "control"))
            snd_config_get_string(field, &control);
        else if (!strcmp(key, "rate"))
            snd_config_get_integer(field, &rate);
        else if (!strcmp(key, "channels"))
            snd_config_get_integer(field, &channels);
        else if (!strcmp(key, "ppm"))
            snd_config_get_integer(field, &ppm);
        else if (strcmp(key, "type") && strcmp(key, "comment") && strcmp(key, "hint"))
            return -EINVAL;
    }
    if (stream != SND_PCM_STREAM_CAPTURE || !file)
        return -EINVAL;
    room_t *room = calloc(1, sizeof *room);
    if (!room)
        return -ENOMEM;
    room->control = control ? strdup(control) : NULL;
    room->rate = (double)rate * (1.0 + 1e-6 * (double)ppm);
    room->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    room->sound = open(file, O_RDONLY | O_CLOEXEC);
    int error = room->sound < 0 ? -errno : told(room, "unplug") ? -ENODEV : told(room, "busy") ? -EBUSY : 0;
    room->io.version = SND_PCM_IOPLUG_VERSION;
    room->io.name = "a recording in a room";
    room->io.callback = &calls;
    room->io.private_data = room;
    room->io.poll_fd = room->timer;
    room->io.poll_events = POLLIN;
    if (error >= 0)
        error = snd_pcm_ioplug_create(&room->io, name, stream, mode);
    if (error < 0) {
        room_close(&room->io);
        return error;
    }
    error = constrain(&room->io, (unsigned)rate, (unsigned)channels);
    if (error < 0) {
        snd_pcm_ioplug_delete(&room->io);
        return error;
    }
    *pcmp = room->io.pcm;
    return 0;
}
SND_PCM_PLUGIN_SYMBOL(room);
