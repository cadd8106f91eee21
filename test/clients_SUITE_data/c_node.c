/* A C node, NAME@127.0.0.1: listens, is published, tells the port, and does what
 * the lines of its standard input say: a line of answer each. */

#include <ei.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST "127.0.0.1"
#define COOKIE "portmapper"
#define TIMEOUT_MS 10000

static ei_cnode self;
static int listener;

/* Whether a node, which is looked up for this, answers. */
static int ping(char *node)
{
    ei_x_buff arguments, answer;
    int connection, result;

    if ((connection = ei_connect_tmo(&self, node, TIMEOUT_MS)) < 0)
        return 0;
    ei_x_new(&arguments);
    ei_x_new(&answer);
    ei_x_encode_empty_list(&arguments);
    result = ei_rpc(&self, connection, "erlang", "node", arguments.buff, arguments.index, &answer);
    ei_x_free(&arguments);
    ei_x_free(&answer);
    ei_close_connection(connection);
    return result >= 0;
}

/* Whether a node connects. The connection stays. */
static int accept_node(void)
{
    ErlConnect peer;

    return ei_accept_tmo(&self, listener, &peer, TIMEOUT_MS) >= 0;
}

static int publish(const char *name)
{
    char node[MAXNODELEN + 1];
    struct in_addr address;
    int port = 0;

    inet_aton(HOST, &address);
    snprintf(node, sizeof node, "%s@%s", name, HOST);
    if (ei_init() != 0 || ei_connect_xinit(&self, HOST, name, node, &address, COOKIE, 0) < 0)
        return -1;
    if ((listener = ei_listen(&self, &port, 5)) < 0 || ei_publish_tmo(&self, port, TIMEOUT_MS) < 0)
        return -1;
    return port;
}

int main(int argc, char **argv)
{
    char line[1000];
    int port;

    if (argc != 2 || (port = publish(argv[1])) < 0)
        return 1;
    printf("%d\n", port);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        puts((strncmp(line, "ping ", 5) == 0 ? ping(line + 5) : accept_node()) ? "true" : "false");
        fflush(stdout);
    }
    return 0;
}
