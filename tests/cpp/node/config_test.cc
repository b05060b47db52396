#include "millstream/node/config.h"

#include <gtest/gtest.h>

#include <string>

namespace millstream::node {
namespace {

TEST(ParseLoopback, TakesEverySpellingOfThisMachine) {
  const struct {
    const char* text;
    const char* host;
    uint16_t port;
  } cases[] = {
      {"127.0.0.1:8081", "127.0.0.1", 8081},
      {"localhost:0", "127.0.0.1", 0},
      {"127.8.9.10:65535", "127.8.9.10", 65535},
      {"[::1]:1", "::1", 1},
  };
  for (const auto& one : cases) {
    const auto parsed = ParseLoopback(one.text);
    ASSERT_TRUE(parsed.ok()) << one.text << ": " << parsed.status().ToString();
    EXPECT_EQ(parsed->host, one.host);
    EXPECT_EQ(parsed->port, one.port);
  }
}

TEST(ParseLoopback, RefusesEveryOtherAddressBecauseNobodyIsAuthenticated) {
  for (const char* text : {"0.0.0.0:80", "[::]:80", "192.168.1.1:80", "example.org:80", "12.7.0.1:80", ":80"}) {
    const auto parsed = ParseLoopback(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(parsed.status().message().find("loopback"), std::string::npos) << parsed.status().ToString();
  }
}

TEST(ParseHostPort, TakesEveryAddress) {
  for (const char* text : {"0.0.0.0:80", "[::]:80", "192.168.1.1:80", "[fe80::1]:80", "localhost:80"}) {
    const auto parsed = ParseHostPort(text);
    ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.status().ToString();
    EXPECT_EQ(parsed->port, 80);
  }
  for (const char* text : {":80", "example.org:80", "unix:/tmp/x:80", "[]:80", "1.2.3.4", "1.2.3.4:x"}) {
    EXPECT_EQ(ParseHostPort(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(ParseLoopback, RefusesWhatIsNoPort) {
  for (const char* text : {"127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:8o", "127.0.0.1: 8",
                           "127.0.0.1:99999999999999999999", ""}) {
    const auto parsed = ParseLoopback(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace millstream::node
