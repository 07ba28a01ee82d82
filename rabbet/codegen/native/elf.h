// An object of x86-64 machine code (ELF, relocatable) put in place: its code and constants, with what they say of each
// other and of functions elsewhere resolved. Nothing here trusts the bytes: every offset and number is compared with
// what there is before it is used.
//
// Format: System V ABI, chapters 4 and 5; AMD64 supplement 1.0, section 4.4 (relocations).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace rabbet {

using Addresses = std::map<std::string, uint64_t, std::less<>>;

struct BadObject : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Object {
  public:
    static constexpr size_t most_aligned = 4096; // a page: more than that no memory is

    // Reads `bytes`, which must outlive this. Raises BadObject.
    explicit Object(std::string_view bytes);

    // The bytes of memory it needs, and of what they must lie at a multiple.
    size_t size() const { return size_ + jumps_ * jump_bytes; }
    size_t alignment() const { return alignment_; }

    // Fills `memory`: size() bytes, aligned, where it will be called. `known` has the functions that it calls and
    // does not have itself. Raises BadObject.
    void place(uint8_t *memory, const Addresses &known) const;

    // Adds the functions that it gives to others to `found`.
    void name_functions(const uint8_t *memory, Addresses &found) const;

  private:
    static constexpr size_t jump_bytes = 16;
    static constexpr uint64_t not_loaded = UINT64_MAX;

    struct Section {
        uint32_t name, kind;
        uint64_t flags, address, offset, size;
        uint32_t link, info;
        uint64_t align, entry;
    };
    struct Symbol {
        uint32_t name;
        uint8_t info, other;
        uint16_t section;
        uint64_t value, size;
    };
    struct Relocation {
        uint64_t offset, info;
        int64_t addend;
    };

    void read_sections();
    void read_symbols(const Section &table);
    void count_jumps(const Section &table);
    bool is_loaded(uint64_t section) const { return section < places_.size() && places_[section] != not_loaded; }
    std::string_view name_of(const Symbol &symbol) const;
    uint64_t address_of(const Symbol &symbol, const uint8_t *memory, const Addresses &known) const;
    template <class T> std::vector<T> table(const Section &section) const;
    std::string_view range(uint64_t offset, uint64_t size) const;

    std::string_view bytes_, names_;
    std::vector<Section> sections_;
    std::vector<uint64_t> places_; // of sections in memory
    std::vector<Symbol> symbols_;
    size_t size_ = 0, alignment_ = jump_bytes, jumps_ = 0; // a jump for each call of a function elsewhere, used where that is far away
};

} // namespace rabbet
