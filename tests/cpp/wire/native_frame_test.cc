#include "millstream/wire/native_frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>

#include "millstream/wire/column_batch.h"
#include "millstream/wire/labels_decoder.h"

namespace millstream::wire {
namespace {

std::string Raw(std::string_view name) {
  std::string out;
  AppendPairString("__name__", &out);
  AppendPairString(name, &out);
  return out;
}

std::string Greeting() {
  return EncodeNative(NativeHello{.key = "ms_id_secret", .tenant = "shop", .client = "test"});
}

std::string SeriesFrame(uint32_t first, const std::vector<std::string>& raw) {
  return EncodeNative(NativeSeries{.first = first, .labels = {raw.begin(), raw.end()}});
}

std::string WriteFrame(uint64_t sequence, std::vector<uint32_t> refs, std::vector<TimestampMs> timestamps,
                       std::vector<double> values) {
  return EncodeNativeWrite(sequence, refs, timestamps, values);
}

// What a session says to `bytes` at last: the first error, or OK.
Status Fate(const std::string& bytes, NativeLimits limits = {}) {
  NativeSession session(limits);
  session.Feed(bytes);
  while (true) {
    const auto event = session.Next();
    if (!event.ok()) return event.status();
    if (!*event) return Status::Ok();
  }
}

TEST(NativeSession, ReadsFramesThatComeByteByByte) {
  const std::string bytes = Greeting() + SeriesFrame(0, {Raw("a"), Raw("b")}) +
                            WriteFrame(7, {0, 1, 0}, {10, 20, 30}, {1, 2, 3}) + EncodeNative(NativePing{.token = 99}) +
                            SeriesFrame(2, {Raw("c")}) + WriteFrame(8, {2}, {-5}, {4});
  NativeSession session;
  std::vector<NativeSession::Event> events;
  for (const char byte : bytes) {
    session.Feed(std::string_view(&byte, 1));
    auto event = session.Next();
    ASSERT_TRUE(event.ok()) << event.status().ToString();
    if (*event) events.push_back(std::move(**event));
  }
  ASSERT_EQ(events.size(), 4u);
  const auto& hello = std::get<NativeSession::Hello>(events[0]);
  EXPECT_EQ(hello.key, "ms_id_secret");
  EXPECT_EQ(hello.tenant, "shop");
  const auto& write = std::get<NativeSession::Write>(events[1]);
  EXPECT_EQ(write.sequence, 7u);
  ASSERT_EQ(write.samples.series.size(), 2u);
  EXPECT_EQ(write.samples.timestamps, (std::vector<TimestampMs>{10, 30, 20}));
  EXPECT_EQ(write.samples.values, (std::vector<double>{1, 3, 2}));
  EXPECT_EQ(write.samples.series[1].raw_labels, Raw("b"));
  EXPECT_EQ(write.samples.series[1].item, 1u);
  EXPECT_EQ(std::get<NativePing>(events[2]).token, 99u);
  EXPECT_EQ(std::get<NativeSession::Write>(events[3]).samples.series[0].raw_labels, Raw("c"));
}

TEST(NativeSession, HostileFramesAreErrors) {
  const std::string defined = Greeting() + SeriesFrame(0, {Raw("a")});
  EXPECT_EQ(Fate(Greeting() + Greeting()).message(), "a second hello");
  EXPECT_EQ(Fate(SeriesFrame(0, {Raw("a")})).message(), "the first frame must be a hello");
  EXPECT_EQ(Fate(EncodeNative(NativeHello{.version = 9, .key = {}, .tenant = {}, .client = {}})).code(),
            StatusCode::kUnimplemented);
  EXPECT_EQ(Fate("GET / HTTP/1.1\r\n\r\n").code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(Fate(std::string(64, '\0')).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Fate(defined + WriteFrame(1, {1}, {0}, {0})).message(), "series 1 is not defined; 1 are");
  EXPECT_EQ(Fate(defined + WriteFrame(5, {0}, {0}, {0}) + WriteFrame(5, {0}, {1}, {0})).message(),
            "frame 5 comes after frame 5");
  EXPECT_EQ(Fate(defined + SeriesFrame(0, {Raw("b")})).message(), "series from 0 on; the next is 1");
  EXPECT_EQ(Fate(Greeting() + EncodeNative(NativePong{})).message(), "a frame of a server came from a client");
  EXPECT_EQ(Fate(Greeting() + SeriesFrame(0, {Raw("a"), Raw("b")}), {.series_max = 1}).code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(Fate(Greeting() + SeriesFrame(0, {Raw(std::string(1000, 'a'))}), {.label_bytes_max = 500}).code(),
            StatusCode::kResourceExhausted);
  const std::string key(2000, 'k');
  EXPECT_EQ(Fate(EncodeNative(NativeHello{.key = key, .tenant = {}, .client = {}})).code(),
            StatusCode::kInvalidArgument);
}

TEST(NativeSession, EveryFlippedBitOfAFrameIsNoticed) {
  const std::string before = Greeting() + SeriesFrame(0, {Raw("a")});
  const std::string frame = WriteFrame(1, {0, 0}, {1, 2}, {3, 4});
  for (size_t bit = 0; bit < frame.size() * 8; ++bit) {
    std::string flipped = frame;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    NativeSession session;
    session.Feed(before + flipped);
    ASSERT_TRUE(session.Next().ok());
    const auto event = session.Next();
    // Either an error at once, or a longer frame that is waited for; never samples.
    EXPECT_TRUE(!event.ok() || !*event) << bit;
  }
}

TEST(NativeSession, ALengthThatIsTooLongIsRefusedBeforeItsBytesCome) {
  const std::string header("\x00\x00\x00\x7f\x01\x00\x00\x00", 8);
  EXPECT_EQ(Fate(header).code(), StatusCode::kResourceExhausted);
}

TEST(NativeSession, NobodyGetsMuchRoomBeforeTheHello) {
  const std::string header("\x01\x10\x00\x00\x01\x00\x00\x00", 8);
  EXPECT_EQ(Fate(header).message(), "a frame of 4097 bytes; the limit is 4096");
  EXPECT_TRUE(Fate(Greeting() + std::string("\x01\x10\x00\x00\x02\x00\x00\x00", 8)).ok());
}

TEST(NativeSession, ATypeOfAnotherTimeIsSaidToBeUnknown) {
  const Status fate = Fate(Greeting() + std::string("\x00\x00\x00\x00\x2f\x00\x00\x00", 8));
  EXPECT_EQ(fate.code(), StatusCode::kUnimplemented);
  EXPECT_EQ(fate.message(), "frames of type 47 are unknown here");
}

TEST(NativeFrameReader, BytesThatAreReceivedWhereTheyStayAreTheSameFrames) {
  std::string stream;
  for (uint64_t token = 0; token < 200; ++token) stream += EncodeNative(NativePing{.token = token});
  for (const size_t step : {1U, 7U, 20U, 100U, 3000U}) {
    NativeFrameReader reader;
    uint64_t next = 0;
    for (size_t at = 0; at < stream.size();) {
      // More room than what comes.
      const std::span<char> room = reader.Room(step + 13);
      ASSERT_EQ(room.size(), step + 13);
      const std::string_view piece = std::string_view(stream).substr(at, step);
      std::ranges::copy(piece, room.begin());
      reader.Came(piece.size());
      at += piece.size();
      while (true) {
        const auto frame = reader.Next();
        ASSERT_TRUE(frame.ok()) << frame.status().ToString();
        if (!*frame) break;
        EXPECT_EQ(EncodeNativeFrame((*frame)->type, (*frame)->payload), EncodeNative(NativePing{.token = next}));
        ++next;
      }
    }
    EXPECT_EQ(next, 200U);
    EXPECT_EQ(reader.buffered(), 0U);
  }
}

TEST(NativeAnswers, DecodingGivesBackWhatWasEncoded) {
  NativeFrameReader reader;
  reader.Feed(
      EncodeNative(NativeWelcome{.window = 16, .frame_bytes_max = 100, .series_max = 7}) +
      EncodeNative(NativeAck{
          .sequence = 1ull << 60, .samples = 10, .rejected = 2, .errors = {{3, StatusCode::kOutOfRange, "too old"}}}) +
      EncodeNative(
          NativeRefused{.sequence = 5, .code = StatusCode::kUnavailable, .retry_after_ms = 250, .reason = "later"}) +
      EncodeNative(NativePong{.token = 42}) +
      EncodeNative(NativeError{.code = StatusCode::kUnauthenticated, .reason = "who?"}));
  const auto next = [&reader] {
    const auto frame = reader.Next();
    return DecodeNativeAnswer(**frame).value();
  };
  EXPECT_EQ(std::get<NativeWelcome>(next()).window, 16u);
  const NativeAnswer ack = next();
  EXPECT_EQ(std::get<NativeAck>(ack).sequence, 1ull << 60);
  EXPECT_EQ(std::get<NativeAck>(ack).errors[0].reason, "too old");
  EXPECT_EQ(std::get<NativeAck>(ack).errors[0].code, StatusCode::kOutOfRange);
  EXPECT_EQ(std::get<NativeRefused>(next()).retry_after_ms, 250u);
  EXPECT_EQ(std::get<NativePong>(next()).token, 42u);
  EXPECT_EQ(std::get<NativeError>(next()).reason, "who?");
}

TEST(NativeDatagrams, DecodingGivesBackWhatWasEncodedAndEveryFlippedBitIsNoticed) {
  const std::string bytes =
      EncodeNativeDatagram({.client = 1, .sequence = 2, .key = "k", .tenant = "t", .batch = "batch"}).value();
  const auto decoded = DecodeNativeDatagram(bytes);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->client, 1u);
  EXPECT_EQ(decoded->sequence, 2u);
  EXPECT_EQ(decoded->key, "k");
  EXPECT_EQ(decoded->batch, "batch");
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(DecodeNativeDatagram(flipped).ok());
  }
  for (size_t size = 0; size < bytes.size(); ++size) EXPECT_FALSE(DecodeNativeDatagram(bytes.substr(0, size)).ok());
  const std::string large(70'000, 'x');
  EXPECT_EQ(EncodeNativeDatagram({.key = {}, .tenant = {}, .batch = large}).status().code(),
            StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace millstream::wire
