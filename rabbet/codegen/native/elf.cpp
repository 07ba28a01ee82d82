#include "elf.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace rabbet {

namespace {

struct Header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, programs, sections;
    uint32_t flags;
    uint16_t size, program_size, program_count, section_size, section_count, section_names;
};
static_assert(sizeof(Header) == 64);

constexpr uint8_t ident_wanted[] = {0x7f, 'E', 'L', 'F', 2, 1, 1}; // 64 bits, little-endian, version 1
constexpr uint16_t relocatable = 1, x86_64 = 62;
constexpr uint32_t data_section = 1, symbol_section = 2, string_section = 3, relocation_section = 4;
constexpr uint32_t other_relocations[] = {9, 19, 0x40000014}; // REL, RELR, CREL: nothing for x86-64 has them
constexpr uint64_t is_writable = 1, is_in_memory = 2, is_code = 4, is_thread_local = 0x400;
constexpr uint32_t relative_32 = 2, call_32 = 4; // R_X86_64_PC32, R_X86_64_PLT32
constexpr uint16_t undefined = 0;
constexpr uint8_t global = 1, function = 2;
constexpr uint64_t most_bytes = uint64_t(1) << 28; // so that a relative address always fits inside

size_t up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

std::string shown(std::string_view name) {
    std::string text;
    for (char letter : name.substr(0, 80))
        text += letter > ' ' && letter < 127 ? letter : '?';
    return text;
}

} // namespace

Object::Object(std::string_view bytes) : bytes_(bytes) {
    if (bytes.size() > most_bytes)
        throw BadObject("an object of " + std::to_string(bytes.size()) + " bytes");
    read_sections();
    for (const Section &section : sections_)
        if (section.kind == symbol_section)
            read_symbols(section);
    for (const Section &section : sections_)
        if (section.kind == relocation_section)
            count_jumps(section);
}

std::string_view Object::range(uint64_t offset, uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset)
        throw BadObject("a part of the object lies outside of it");
    return bytes_.substr(offset, size);
}

template <class T> std::vector<T> Object::table(const Section &section) const {
    const std::string_view data = range(section.offset, section.size);
    if (section.entry != sizeof(T) || section.size % sizeof(T) != 0)
        throw BadObject("a table of the object is not one of whole entries");
    std::vector<T> found(data.size() / sizeof(T));
    if (!found.empty())
        std::memcpy(static_cast<void *>(found.data()), data.data(), data.size());
    return found;
}

void Object::read_sections() {
    Header header;
    std::memcpy(&header, range(0, sizeof header).data(), sizeof header);
    if (std::memcmp(header.ident, ident_wanted, sizeof ident_wanted) != 0 || header.type != relocatable ||
        header.machine != x86_64 || header.section_size != sizeof(Section))
        throw BadObject("not a relocatable object of x86-64");
    Section all{};
    all.offset = header.sections;
    all.size = uint64_t(header.section_count) * sizeof(Section);
    all.entry = sizeof(Section);
    sections_ = table<Section>(all);
    for (const Section &section : sections_) {
        if (std::find(std::begin(other_relocations), std::end(other_relocations), section.kind) !=
            std::end(other_relocations))
            throw BadObject("the object's addresses are of kind " + std::to_string(section.kind));
        places_.push_back(not_loaded);
        if (!(section.flags & is_in_memory) || section.size == 0)
            continue;
        if (section.kind != data_section || section.flags & (is_writable | is_thread_local))
            throw BadObject("a section of the object is neither code nor constants");
        const uint64_t align = section.align == 0 ? 1 : section.align;
        if (align > most_aligned || (align & (align - 1)) != 0)
            throw BadObject("a section of the object is aligned to " + std::to_string(align));
        alignment_ = std::max(alignment_, size_t(align));
        range(section.offset, section.size);
        places_.back() = up(size_, align);
        size_ = places_.back() + section.size;
        if (size_ > most_bytes) // sections may overlap in the file
            throw BadObject("the object's sections are too large");
    }
    size_ = up(size_, jump_bytes);
}

void Object::read_symbols(const Section &section) {
    if (!symbols_.empty())
        throw BadObject("the object has several tables of symbols");
    if (section.link >= sections_.size() || sections_[section.link].kind != string_section)
        throw BadObject("the object's symbols have no names");
    const Section &names = sections_[section.link];
    names_ = range(names.offset, names.size);
    if (names_.empty() || names_.back() != '\0')
        throw BadObject("the object's names do not end");
    symbols_ = table<Symbol>(section);
}

void Object::count_jumps(const Section &section) {
    if (!is_loaded(section.info)) // of what is not loaded: notes for debuggers, say
        return;
    for (const Relocation &one : table<Relocation>(section)) {
        const uint64_t symbol = one.info >> 32;
        if (symbol >= symbols_.size())
            throw BadObject("the object names a symbol that it does not have");
        jumps_ += symbols_[symbol].section == undefined;
    }
    if (jumps_ > most_bytes / jump_bytes)
        throw BadObject("the object calls too much");
}

std::string_view Object::name_of(const Symbol &symbol) const {
    if (symbol.name >= names_.size())
        throw BadObject("a name of the object lies outside of its names");
    return names_.data() + symbol.name; // up to a zero, and the last byte is one
}

uint64_t Object::address_of(const Symbol &symbol, const uint8_t *memory, const Addresses &known) const {
    if (symbol.section == undefined) {
        const auto found = known.find(name_of(symbol));
        if (found == known.end())
            throw BadObject("the object needs '" + shown(name_of(symbol)) + "', which nobody has");
        return found->second;
    }
    if (!is_loaded(symbol.section) || symbol.value > sections_[symbol.section].size)
        throw BadObject("a symbol of the object has no place in memory");
    return reinterpret_cast<uint64_t>(memory) + places_[symbol.section] + symbol.value;
}

void Object::place(uint8_t *memory, const Addresses &known) const {
    for (size_t i = 0; i < sections_.size(); i++)
        if (is_loaded(i))
            std::memcpy(memory + places_[i], bytes_.data() + sections_[i].offset, sections_[i].size);
    uint8_t *jump = memory + size_;
    for (const Section &section : sections_) {
        if (section.kind != relocation_section || !is_loaded(section.info))
            continue;
        const Section &target = sections_[section.info];
        for (const Relocation &one : table<Relocation>(section)) {
            const auto kind = uint32_t(one.info);
            if ((kind != relative_32 && kind != call_32) || target.size < 4 || one.offset > target.size - 4)
                throw BadObject("the object has an address that cannot be resolved (" + std::to_string(kind) + ")");
            const Symbol &symbol = symbols_[one.info >> 32];
            uint8_t *place = memory + places_[section.info] + one.offset;
            const auto here = reinterpret_cast<uint64_t>(place);
            const auto distance = [&](uint64_t to) { return int64_t(to + uint64_t(one.addend) - here); };
            int64_t value = distance(address_of(symbol, memory, known));
            if (value != int32_t(value) && kind == call_32 && symbol.section == undefined) {
                const uint64_t to = uint64_t(value) - uint64_t(one.addend) + here;
                const uint8_t code[] = {0xff, 0x25, 0, 0, 0, 0}; // jmp *0(%rip): the address behind it
                std::memcpy(jump, code, sizeof code);
                std::memcpy(jump + sizeof code, &to, sizeof to);
                value = distance(reinterpret_cast<uint64_t>(jump));
                jump += jump_bytes;
            }
            const auto narrow = int32_t(value);
            if (value != narrow)
                throw BadObject("the object reads what lies too far away");
            std::memcpy(place, &narrow, sizeof narrow);
        }
    }
}

void Object::name_functions(const uint8_t *memory, Addresses &found) const {
    for (const Symbol &symbol : symbols_) {
        if (symbol.section == undefined || symbol.info >> 4 != global || (symbol.info & 15) != function)
            continue;
        const uint64_t address = address_of(symbol, memory, {});
        const Section &code = sections_[symbol.section];
        if (!(code.flags & is_code) || symbol.size == 0 || symbol.size > code.size - symbol.value)
            throw BadObject("a function of the object is not code");
        if (!found.emplace(name_of(symbol), address).second)
            throw BadObject("'" + shown(name_of(symbol)) + "' is there twice");
    }
}

} // namespace rabbet
