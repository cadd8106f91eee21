%% Real `erl' nodes use the port mapper.
-module(nodes_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([nodes_register_and_see_each_other/1]).

all() ->
    [nodes_register_and_see_each_other].

nodes_register_and_see_each_other(_Config) ->
    {VM, Port} = testkit:start_portmapper(),
    A = #{peer := PeerA} = testkit:start_node(a, Port),
    B = testkit:start_node(b, Port),
    ?assertMatch({ok, [{"a", _}, {"b", _}]}, peer:call(PeerA, net_adm, names, ["127.0.0.1"])),
    ?assertEqual(pong, peer:call(PeerA, net_adm, ping, ['b@127.0.0.1'])),
    [testkit:stop(Each) || Each <- [A, B, VM]],
    ok.
