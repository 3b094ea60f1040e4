/* libwbxml's side of the comparison: decodes the file named first to XML text, over and over, for
 * at least the seconds named second, and prints the calls and the seconds they took. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <wbxml/wbxml.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    FILE *file = fopen(argv[1], "rb");
    if (!file) return 2;
    fseek(file, 0, SEEK_END);
    long length = ftell(file);
    rewind(file);
    WB_UTINY *bytes = malloc(length);
    if (!bytes || fread(bytes, 1, length, file) != (size_t)length) return 2;
    fclose(file);

    double at_least = atof(argv[2]), began = now(), took = 0;
    long calls = 0;
    WB_ULONG text = 0;
    while (took < at_least) {
        WBXMLConvWBXML2XML *conversion = NULL;
        WB_UTINY *xml = NULL;
        if (wbxml_conv_wbxml2xml_create(&conversion) != WBXML_OK) return 1;
        wbxml_conv_wbxml2xml_set_language(conversion, WBXML_LANG_ACTIVESYNC);
        wbxml_conv_wbxml2xml_set_gen_type(conversion, WBXML_GEN_XML_COMPACT);
        WBXMLError error = wbxml_conv_wbxml2xml_run(conversion, bytes, length, &xml, &text);
        wbxml_conv_wbxml2xml_destroy(conversion);
        if (error != WBXML_OK) {
            fprintf(stderr, "libwbxml: %s\n", wbxml_errors_string(error));
            return 1;
        }
        free(xml);
        calls++;
        took = now() - began;
    }
    printf("%ld %.9f %lu\n", calls, took, (unsigned long)text);
    return 0;
}
