#include "block_store.h"

#include <algorithm>
#include <set>

#include "millstream/env/file_util.h"

namespace millstream::tsdb {

Status BlockStore::Open() {
  MS_ASSIGN_OR_RETURN(const auto entries, files_.List(folder_));
  std::vector<std::shared_ptr<const Block>> found;
  for (const env::FolderEntry& entry : entries) {
    const std::string path = env::JoinPath(folder_, entry.name);
    if (entry.name.starts_with(kTemporaryPrefix)) {
      MS_RETURN_IF_ERROR(env::RemoveTree(files_, path));
      continue;
    }
    BlockMeta named;
    if (!entry.is_folder || !ParseBlockFolderName(entry.name, &named)) continue;
    MS_ASSIGN_OR_RETURN(auto block, Block::Open(files_, path, named));
    next_sequence_ = std::max(next_sequence_, named.sequence + 1);
    found.push_back(std::move(block));
  }
  // A crash after a compaction leaves what it replaced.
  std::set<uint64_t> replaced;
  for (const auto& block : found) replaced.insert(block->meta().replaces.begin(), block->meta().replaces.end());
  auto set = std::make_shared<BlockSet>();
  set->generation = 1;
  for (auto& block : found) {
    if (replaced.contains(block->meta().sequence)) {
      MS_RETURN_IF_ERROR(RemoveFolder(*block));
    } else {
      set->blocks.push_back(std::move(block));
    }
  }
  std::sort(set->blocks.begin(), set->blocks.end(),
            [](const auto& a, const auto& b) { return a->meta().sequence < b->meta().sequence; });
  MutexLock lock(mutex_);
  blocks_ = std::move(set);
  return Status::Ok();
}

Result<std::shared_ptr<const Block>> BlockStore::OpenBlock(const std::string& path) {
  const size_t slash = path.rfind('/');
  BlockMeta named;
  if (!ParseBlockFolderName(std::string_view(path).substr(slash == std::string::npos ? 0 : slash + 1), &named)) {
    return InvalidArgument("{} is not the name of a block", path);
  }
  MS_ASSIGN_OR_RETURN(auto block, Block::Open(files_, path, named));
  if (!block->broken().ok()) return block->broken();
  return block;
}

std::shared_ptr<const BlockSet> BlockStore::Blocks() const {
  MutexLock lock(mutex_);
  return blocks_;
}

void BlockStore::Exchange(const std::vector<std::shared_ptr<const Block>>& add, const std::vector<uint64_t>& remove) {
  MutexLock lock(mutex_);
  auto set = std::make_shared<BlockSet>(*blocks_);
  ++set->generation;
  std::erase_if(set->blocks, [&](const auto& block) {
    return std::find(remove.begin(), remove.end(), block->meta().sequence) != remove.end();
  });
  set->blocks.insert(set->blocks.end(), add.begin(), add.end());
  blocks_ = std::move(set);
}

Status BlockStore::RemoveFolder(const Block& block) {
  const std::string dropped =
      env::JoinPath(folder_, fmt::format("{}drop-{:010}", kTemporaryPrefix, block.meta().sequence));
  MS_RETURN_IF_ERROR(env::RemoveTree(files_, dropped));
  MS_RETURN_IF_ERROR(files_.Rename(block.folder(), dropped));
  MS_RETURN_IF_ERROR(files_.SyncFolder(folder_));
  return env::RemoveTree(files_, dropped);
}

}  // namespace millstream::tsdb
