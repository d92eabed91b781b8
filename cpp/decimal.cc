// Adds decimals in long double, which Rust has no type for.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

// A whole text as a number: no space before it, nothing after it, not NaN.
bool parse(const std::uint8_t *text, std::size_t len, long double *number) {
  if (len == 0 || len > 5 * 1024) return false;
  const char first = static_cast<char>(text[0]);
  if (first == ' ' || (first >= '\t' && first <= '\r')) return false;
  const std::string copy(reinterpret_cast<const char *>(text), len);
  char *end = nullptr;
  *number = std::strtold(copy.c_str(), &end);
  return end == copy.c_str() + len && !std::isnan(*number) &&
         !(std::fabs(*number) == HUGE_VALL && copy.find_first_of("iI") == std::string::npos);
}

}  // namespace

// The length of the sum's text; -1 or -2 where a or b is no number, -3 where the sum is none.
extern "C" std::ptrdiff_t atbr_add_decimals(const std::uint8_t *a, std::size_t a_len,
                                            const std::uint8_t *b, std::size_t b_len,
                                            std::uint8_t *sum, std::size_t room) {
  try {
    long double x = 0;
    long double y = 0;
    if (!parse(a, a_len, &x)) return -1;
    if (!parse(b, b_len, &y)) return -2;
    x += y;
    if (std::isnan(x) || std::isinf(x)) return -3;
    char *text = reinterpret_cast<char *>(sum);
    int len = std::snprintf(text, room, "%.17Lf", x);
    if (len < 0 || static_cast<std::size_t>(len) >= room) return -3;
    if (std::memchr(text, '.', static_cast<std::size_t>(len)) != nullptr) {
      while (text[len - 1] == '0') --len;
      if (text[len - 1] == '.') --len;
    }
    if (len == 2 && text[0] == '-' && text[1] == '0') {
      text[0] = '0';
      len = 1;
    }
    return len;
  } catch (...) {
    return -3;
  }
}
