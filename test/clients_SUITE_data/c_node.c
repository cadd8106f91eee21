/* A C node: publishes the name and the port that it is given, says so, and ends
 * with its standard input. */

#include <ei.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    ei_cnode node;

    if (argc != 3 || ei_init() != 0)
        return 2;
    if (ei_connect_init(&node, argv[1], "portmapper", 0) < 0)
        return 3;
    if (ei_publish(&node, atoi(argv[2])) < 0)
        return 4;
    puts("published");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return 0;
}
