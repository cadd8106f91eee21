%% @doc Makes the VM a node, which registers with the port mapper in the VM, unless it was
%% one from the start.
-module(switchboard_app).
-behaviour(application).

-export([start/2, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Arguments) ->
    case is_alive() orelse make_node() of
        true -> switchboard_sup:start_link();
        {error, _} = Error -> Error
    end.

make_node() ->
    {ok, Node} = application:get_env(node),
    case net_kernel:start(Node, #{name_domain => longnames}) of
        {ok, _Pid} -> true;
        {error, _} = Error -> Error
    end.

-spec stop(term()) -> ok.
stop(_State) ->
    _ = net_kernel:stop(),
    ok.
