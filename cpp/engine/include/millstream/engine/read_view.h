// ReadView: whose series a read is about, and which of them it may see. Every read of the engine goes through one, so
// that no expression can reach past it.
//
// With several tenants every series gets the label __tenant_id__ with its tenant's name, in place of one that it has
// itself, which is called original___tenant_id__ then. Matchers of __tenant_id__ choose among the tenants.
// Source      The labels are those of Grafana Mimir's tenant federation.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/storage/queryable.h"
#include "millstream/storage/series_filter.h"

namespace millstream::engine {

inline constexpr std::string_view kTenantLabel = "__tenant_id__";
inline constexpr std::string_view kOriginalTenantLabel = "original___tenant_id__";
inline constexpr size_t kViewTenantsMax = 100;
inline constexpr size_t kViewSelectorsMax = 1000;

// One tenant of a view. Series selectors in PromQL's words: what is visible of it; no `allow` is everything.
struct TenantScope {
  TenantId tenant;
  std::string name;  // the value of __tenant_id__; of no account when the tenant is alone
  std::vector<std::string> allow;
  std::vector<std::string> deny;
};

// kInvalidArgument when a selector does not parse, kResourceExhausted when there are more than kViewSelectorsMax.
Result<storage::SeriesFilter> MakeFilter(const std::vector<std::string>& allow, const std::vector<std::string>& deny);

// Whether these selectors give nothing but what access lists let see; false in doubt. Errors as of MakeFilter.
Result<bool> AreWithin(const std::vector<std::string>& selectors, const std::vector<std::string>& allow,
                       const std::vector<std::string>& deny);

class ReadView {
 public:
  struct Part {
    TenantId tenant;
    std::string name;
    storage::SeriesFilter filter;
  };

  // All of one tenant.
  ReadView(TenantId tenant) : parts_{{tenant, {}, {}}} {}  // NOLINT(google-explicit-constructor)

  // kInvalidArgument without a tenant, with one named twice, or when a selector does not parse.
  static Result<ReadView> Make(const std::vector<TenantScope>& scopes);

  const std::vector<Part>& parts() const { return parts_; }

  // What one part shows of a store, without a label for its tenant.
  static Result<std::unique_ptr<storage::Querier>> QuerierOf(const Part& part, const storage::Queryable& store);
  // What the view shows of a store.
  Result<std::unique_ptr<storage::Querier>> MakeQuerier(const storage::Queryable& store) const;

 private:
  ReadView() = default;

  std::vector<Part> parts_;
};

}  // namespace millstream::engine
