// A fresh folder of the real file system for one test, removed with all that is in it at the end.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>

#include "millstream/env/env.h"
#include "millstream/env/file_util.h"

namespace millstream::env {

class TempFolder {
 public:
  TempFolder() : path_(testing::TempDir() + "millstream_XXXXXX") { EXPECT_NE(mkdtemp(path_.data()), nullptr) << path_; }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { EXPECT_TRUE(RemoveTree(*SystemEnv().files, path_).ok()); }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace millstream::env
