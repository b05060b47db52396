#include "page_file.h"

#include "millstream/base/check.h"
#include "millstream/codec/byte_io.h"
#include "millstream/codec/crc32c.h"

namespace millstream::tsdb {
namespace {

constexpr size_t kBufferBytes = 256 * 1024;

uint32_t Checksum(uint64_t position, std::string_view payload) {
  std::string prefix;
  codec::ByteWriter(&prefix).U64(position);
  return codec::Crc32cExtend(codec::Crc32c(prefix), payload);
}

}  // namespace

Result<std::unique_ptr<PageWriter>> PageWriter::Create(env::FileSystem& files, std::string path,
                                                       std::string_view magic) {
  MS_CHECK(magic.size() == kMagicBytes);
  MS_ASSIGN_OR_RETURN(auto file, files.OpenForWrite(path, env::OpenMode::kCreate));
  return std::unique_ptr<PageWriter>(new PageWriter(std::move(file), magic));
}

Result<PageRef> PageWriter::Add(std::string_view payload) {
  if (payload.size() > kPageBytesMax) {
    return ResourceExhausted("a page of {} bytes is larger than {}", payload.size(), kPageBytesMax);
  }
  const PageRef page{bytes(), static_cast<uint32_t>(payload.size())};
  codec::ByteWriter writer(&buffer_);
  writer.U32(page.bytes);
  writer.U32(Checksum(page.position, payload));
  writer.Raw(payload);
  if (buffer_.size() >= kBufferBytes) MS_RETURN_IF_ERROR(Flush());
  return page;
}

Status PageWriter::Flush() {
  MS_RETURN_IF_ERROR(file_->Append(buffer_));
  buffer_.clear();
  return Status::Ok();
}

Status PageWriter::Finish() {
  MS_RETURN_IF_ERROR(Flush());
  return file_->Sync();
}

Result<std::unique_ptr<PageReader>> PageReader::Open(env::FileSystem& files, std::string path, std::string_view magic) {
  MS_ASSIGN_OR_RETURN(auto file, files.OpenForRead(path));
  MS_ASSIGN_OR_RETURN(const uint64_t bytes, file->Size());
  std::unique_ptr<PageReader> reader(new PageReader(std::move(file), std::move(path), bytes));
  if (bytes < kMagicBytes) return DataLoss("{} has only {} bytes", reader->path(), bytes);
  std::string found(kMagicBytes, '\0');
  MS_RETURN_IF_ERROR(reader->ReadExactly(0, &found));
  if (found != magic) return DataLoss("{} does not begin as such a file does, at byte 0", reader->path());
  return reader;
}

Status PageReader::ReadExactly(uint64_t position, std::string* out) const {
  MS_ASSIGN_OR_RETURN(const size_t read, file_->Read(position, *out));
  if (read != out->size()) {
    return DataLoss("{} ends at byte {}, within the page at byte {}", path_, position + read, position);
  }
  return Status::Ok();
}

Result<std::string> PageReader::ReadNext(uint64_t position, uint64_t* next) const {
  if (position > bytes_ || bytes_ - position < kPageHeaderBytes) {
    return DataLoss("{} ends at byte {}, before the page at byte {}", path_, bytes_, position);
  }
  std::string header(kPageHeaderBytes, '\0');
  MS_RETURN_IF_ERROR(ReadExactly(position, &header));
  codec::ByteReader in(header);
  uint32_t length = 0;
  uint32_t checksum = 0;
  MS_CHECK(in.U32(&length) && in.U32(&checksum));
  if (length > kPageBytesMax || length > bytes_ - position - kPageHeaderBytes) {
    return DataLoss("{} has a page of an impossible length at byte {}", path_, position);
  }
  std::string payload(length, '\0');
  MS_RETURN_IF_ERROR(ReadExactly(position + kPageHeaderBytes, &payload));
  if (Checksum(position, payload) != checksum) {
    return DataLoss("{} has a page with a wrong checksum at byte {}", path_, position);
  }
  *next = position + kPageHeaderBytes + length;
  return payload;
}

Result<std::string> PageReader::Read(PageRef page) const {
  uint64_t next = 0;
  MS_ASSIGN_OR_RETURN(std::string payload, ReadNext(page.position, &next));
  if (payload.size() != page.bytes) {
    return DataLoss("{} has a page of {} bytes where {} belong, at byte {}", path_, payload.size(), page.bytes,
                    page.position);
  }
  return payload;
}

}  // namespace millstream::tsdb
