// What both implementations of FileSystem promise, checked on both.
#include "millstream/env/file_system.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "millstream/env/env.h"
#include "millstream/env/file_util.h"
#include "millstream/env/sim_file_system.h"
#include "temp_folder.h"

namespace millstream::env {
namespace {

enum class Kind { kPosix, kSimulated };

class FileSystemTest : public testing::TestWithParam<Kind> {
 protected:
  FileSystemTest() {
    if (GetParam() == Kind::kPosix) {
      files_ = SystemEnv().files;
      root_ = folder_.path();
    } else {
      simulated_ = std::make_unique<SimFileSystem>(1);
      files_ = simulated_.get();
      root_ = "/data";
      EXPECT_TRUE(files_->MakeFolder(root_).ok());
    }
  }

  std::string Path(std::string_view name) const { return JoinPath(root_, name); }

  void Write(const std::string& name, std::string_view bytes) {
    auto file = files_->OpenForWrite(Path(name), OpenMode::kTruncate);
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    ASSERT_TRUE((*file)->Append(bytes).ok());
  }

  std::string Read(const std::string& name) {
    auto bytes = ReadFile(*files_, Path(name), 1'000'000);
    EXPECT_TRUE(bytes.ok()) << bytes.status().ToString();
    return bytes.ok() ? *bytes : "";
  }

  TempFolder folder_;
  std::unique_ptr<SimFileSystem> simulated_;
  FileSystem* files_ = nullptr;
  std::string root_;
};

INSTANTIATE_TEST_SUITE_P(Both, FileSystemTest, testing::Values(Kind::kPosix, Kind::kSimulated),
                         [](const auto& about) { return about.param == Kind::kPosix ? "Posix" : "Simulated"; });

TEST_P(FileSystemTest, AppendGathersItsPartsInOrderEvenWhenTheyAreManyOrEmpty) {
  auto file = files_->OpenForWrite(Path("a"), OpenMode::kCreate);
  ASSERT_TRUE(file.ok());
  std::vector<std::string> storage;
  std::string expected;
  for (int i = 0; i < 300; ++i) {
    storage.push_back(i % 7 == 0 ? "" : std::to_string(i));
    expected += storage.back();
  }
  const std::vector<std::string_view> parts(storage.begin(), storage.end());
  ASSERT_TRUE((*file)->Append(parts).ok());
  EXPECT_EQ((*file)->size(), expected.size());
  ASSERT_TRUE((*file)->Append("tail").ok());
  ASSERT_TRUE((*file)->Sync().ok());
  ASSERT_TRUE((*file)->SyncData().ok());
  EXPECT_EQ(Read("a"), expected + "tail");
}

TEST_P(FileSystemTest, OpenModesDifferInWhatTheyFindThere) {
  EXPECT_EQ(files_->OpenForWrite(Path("a"), OpenMode::kAppend).status().code(), StatusCode::kNotFound);
  {
    ASSERT_TRUE((*files_->OpenForWrite(Path("a"), OpenMode::kCreate))->Append("one").ok());
  }
  EXPECT_EQ(files_->OpenForWrite(Path("a"), OpenMode::kCreate).status().code(), StatusCode::kAlreadyExists);
  {
    ASSERT_TRUE((*files_->OpenForWrite(Path("a"), OpenMode::kAppend))->Append("two").ok());
  }
  EXPECT_EQ(Read("a"), "onetwo");
  {
    ASSERT_TRUE((*files_->OpenForWrite(Path("a"), OpenMode::kTruncate))->Append("x").ok());
  }
  EXPECT_EQ(Read("a"), "x");
}

TEST_P(FileSystemTest, TruncateCutsAndTheNextAppendWritesThere) {
  auto file = *files_->OpenForWrite(Path("a"), OpenMode::kCreate);
  ASSERT_TRUE(file->Append("abcdef").ok());
  ASSERT_TRUE(file->Truncate(3).ok());
  ASSERT_TRUE(file->Append("X").ok());
  EXPECT_EQ(Read("a"), "abcX");
  ASSERT_TRUE(file->Truncate(6).ok());
  EXPECT_EQ(Read("a"), std::string("abcX\0\0", 6));
}

TEST_P(FileSystemTest, ReadIsShortOnlyAtTheEndAndSeesWhatIsAppendedLater) {
  auto out = *files_->OpenForWrite(Path("a"), OpenMode::kCreate);
  auto in = *files_->OpenForRead(Path("a"));
  std::array<char, 4> buffer{};
  EXPECT_EQ(*in->Read(0, buffer), 0U);
  ASSERT_TRUE(out->Append("hello").ok());
  EXPECT_EQ(*in->Size(), 5U);
  EXPECT_EQ(*in->Read(0, buffer), 4U);
  EXPECT_EQ(*in->Read(4, buffer), 1U);
  EXPECT_EQ(buffer[0], 'o');
  EXPECT_EQ(*in->Read(99, buffer), 0U);
}

TEST_P(FileSystemTest, MapShowsTheFilesBytesAndNothingForAnEmptyFile) {
  Write("a", "mapped");
  Write("empty", "");
  EXPECT_EQ((*files_->Map(Path("a")))->bytes(), "mapped");
  EXPECT_EQ((*files_->Map(Path("empty")))->bytes(), "");
  EXPECT_EQ(files_->Map(Path("absent")).status().code(), StatusCode::kNotFound);
}

TEST_P(FileSystemTest, RenameReplacesItsTarget) {
  Write("a", "new");
  Write("b", "old");
  ASSERT_TRUE(files_->Rename(Path("a"), Path("b")).ok());
  EXPECT_EQ(Read("b"), "new");
  EXPECT_FALSE(*files_->Exists(Path("a")));
  EXPECT_EQ(files_->Rename(Path("a"), Path("c")).code(), StatusCode::kNotFound);
}

TEST_P(FileSystemTest, ListIsSortedAndTellsFoldersFromFiles) {
  Write("b", "");
  Write("a", "");
  ASSERT_TRUE(files_->MakeFolder(Path("c")).ok());
  ASSERT_TRUE(files_->SyncFolder(root_).ok());
  EXPECT_EQ(files_->MakeFolder(Path("c")).code(), StatusCode::kAlreadyExists);
  const std::vector<FolderEntry> expected = {{"a", false}, {"b", false}, {"c", true}};
  EXPECT_EQ(*files_->List(root_), expected);
  EXPECT_EQ(files_->List(Path("absent")).status().code(), StatusCode::kNotFound);
}

TEST_P(FileSystemTest, RemoveTakesFilesAndEmptyFoldersOnly) {
  ASSERT_TRUE(files_->MakeFolder(Path("f")).ok());
  Write("f/a", "x");
  EXPECT_EQ(files_->Remove(Path("f")).code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(files_->Remove(Path("f/a")).ok());
  EXPECT_TRUE(files_->Remove(Path("f")).ok());
  EXPECT_EQ(files_->Remove(Path("f")).code(), StatusCode::kNotFound);
}

TEST_P(FileSystemTest, AnOpenFileOutlivesItsName) {
  Write("a", "still here");
  auto in = *files_->OpenForRead(Path("a"));
  ASSERT_TRUE(files_->Remove(Path("a")).ok());
  std::array<char, 5> buffer{};
  EXPECT_EQ(*in->Read(0, buffer), 5U);
  EXPECT_EQ(std::string_view(buffer.data(), 5), "still");
}

TEST_P(FileSystemTest, ASecondLockOfAFolderIsRefusedUntilTheFirstIsGivenBack) {
  auto first = files_->LockFolder(root_);
  ASSERT_TRUE(first.ok());
  const auto second = files_->LockFolder(root_);
  EXPECT_EQ(second.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().message().find(root_), std::string_view::npos);
  *first = nullptr;
  EXPECT_TRUE(files_->LockFolder(root_).ok());
}

TEST_P(FileSystemTest, ErrorsNameThePath) {
  const auto status = files_->OpenForRead(Path("absent")).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find(Path("absent")), std::string_view::npos);
}

TEST_P(FileSystemTest, SizesAndFreeSpaceAreTold) {
  Write("a", "12345");
  EXPECT_EQ(*files_->FileSize(Path("a")), 5U);
  EXPECT_GT(*files_->FreeBytes(root_), 0U);
  EXPECT_EQ(files_->FileSize(Path("absent")).status().code(), StatusCode::kNotFound);
}

TEST_P(FileSystemTest, BootIdStaysTheSameWhileTheMachineRuns) {
  EXPECT_EQ(files_->BootId(), files_->BootId());
}

TEST_P(FileSystemTest, MakeFoldersMakesAllAncestorsAndIsContentWithWhatIsThere) {
  EXPECT_TRUE(MakeFolders(*files_, Path("x/y/z")).ok());
  EXPECT_TRUE(MakeFolders(*files_, Path("x/y/z")).ok());
  Write("x/y/z/a", "deep");
  EXPECT_EQ(Read("x/y/z/a"), "deep");
}

TEST_P(FileSystemTest, RemoveTreeRemovesAllAndIsContentWithNothing) {
  ASSERT_TRUE(MakeFolders(*files_, Path("x/y")).ok());
  Write("x/a", "1");
  Write("x/y/b", "2");
  EXPECT_TRUE(RemoveTree(*files_, Path("x")).ok());
  EXPECT_FALSE(*files_->Exists(Path("x")));
  EXPECT_TRUE(RemoveTree(*files_, Path("x")).ok());
  Write("file", "1");
  EXPECT_TRUE(RemoveTree(*files_, Path("file")).ok());
  EXPECT_FALSE(*files_->Exists(Path("file")));
}

TEST_P(FileSystemTest, ReadFileRefusesWhatIsLargerThanTheCallerTakes) {
  Write("a", "12345");
  EXPECT_EQ(*ReadFile(*files_, Path("a"), 5), "12345");
  EXPECT_EQ(ReadFile(*files_, Path("a"), 4).status().code(), StatusCode::kResourceExhausted);
}

TEST_P(FileSystemTest, WriteFileAtomicallyReplacesAndLeavesNoTemporaryFile) {
  ASSERT_TRUE(WriteFileAtomically(*files_, Path("a"), "first").ok());
  ASSERT_TRUE(WriteFileAtomically(*files_, Path("a"), "second").ok());
  EXPECT_EQ(Read("a"), "second");
  EXPECT_EQ(files_->List(root_)->size(), 1U);
}

TEST(FileUtil, PathsAreJoinedAndSplit) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
  EXPECT_EQ(ParentFolder("a/b/c"), "a/b");
  EXPECT_EQ(ParentFolder("a/b/"), "a");
  EXPECT_EQ(ParentFolder("a"), ".");
  EXPECT_EQ(ParentFolder("/a"), "/");
}

TEST(FileUtil, RemoveTreeDoesNotFollowASymbolicLinkOutOfTheTree) {
  const TempFolder outside;
  const TempFolder inside;
  FileSystem& files = *SystemEnv().files;
  ASSERT_TRUE(WriteFileAtomically(files, JoinPath(outside.path(), "keep"), "x").ok());
  ASSERT_TRUE(files.MakeFolder(JoinPath(inside.path(), "tree")).ok());
  ASSERT_EQ(symlink(outside.path().c_str(), JoinPath(inside.path(), "tree/link").c_str()), 0);
  ASSERT_TRUE(RemoveTree(files, JoinPath(inside.path(), "tree")).ok());
  EXPECT_TRUE(*files.Exists(JoinPath(outside.path(), "keep")));
}

}  // namespace
}  // namespace millstream::env
